"""Makes the library from the notebooks: `python -m tests.tools.export`, which is `nbdev-export` and a stub for each package that names what is public in it."""
import ast
import os
from pathlib import Path

from nbdev.config import get_config
from nbdev.doclinks import nbdev_export


def public_names(path):
    """What the module at `path` says is public."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


def stub(package):
    """The text of a package's stub: every public name of its rooms, and where it is."""
    rooms = sorted(path for path in package.rglob("*.py") if not path.stem.startswith("_"))
    named = [(".".join(path.relative_to(package).with_suffix("").parts), public_names(path)) for path in rooms]
    lines = [f"from .{room} import {name} as {name}" for room, names in named for name in sorted(names)]
    return "\n".join(["# Made by tests/tools/export.py: what this package offers, imported when it is first asked for.", *lines]) + "\n"


def write(path, text):
    """Write `text` whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def main():
    """Export the notebooks of the project in the working directory."""
    nbdev_export()
    library = Path(get_config().lib_path)
    for package in [library, *sorted(path.parent for path in library.glob("*/__init__.py"))]:
        write(package / "__init__.pyi", stub(package))


if __name__ == "__main__":
    main()
