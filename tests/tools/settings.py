"""Writes llmrec/work/default.toml from the signatures: `python -m tests.tools.settings`."""
import re
from importlib.resources import files

from llmrec.work.configuration import config_text, find_recommenders, load_config, recommender_section, section_text

DEFAULT = files("llmrec.work") / "default.toml"
HEAD = """# Every key there is, with its default: made from the signatures by `python -m tests.tools.settings`.
# A file of your own needs only what differs. Write "none" for None.

"""


def default_text():
    """The defaults as a file, and the sections of all other recommenders as comments."""
    others = [section_text("recommender", recommender_section(name)()) for name in find_recommenders() if name != "Hybrid"]
    return HEAD + config_text(load_config()) + "\n" + "\n\n".join(re.sub("(?m)^(?=.)", "# ", text) for text in others) + "\n"


if __name__ == "__main__":
    DEFAULT.write_text(default_text(), encoding="utf-8")
