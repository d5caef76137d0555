"""Writes llmrec/work/default.toml from the signatures: `python -m tests.tools.settings`."""
from llmrec.work.configuration import DEFAULT, default_text

if __name__ == "__main__":
    DEFAULT.write_text(default_text(), encoding="utf-8")
