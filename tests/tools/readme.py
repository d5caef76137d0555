"""Makes README.md from nbs/index.ipynb: `python -m tests.tools.readme`."""
import os
import posixpath
import re

import nbformat
from nbconvert import MarkdownExporter

from tests.tools.notebooks import NBS, ROOT, outputs, read

INDEX, README = NBS / "index.ipynb", ROOT / "README.md"


def fenced(cell):
    """The cell's outputs as one Markdown output of fenced text; pictures and HTML stay in the notebook."""
    texts = [text.strip("\n") for kind, text in outputs(cell) if kind in ("text/plain", "stdout")]
    if not texts or any(kind.startswith("image/") for kind, _ in outputs(cell)):
        return []
    body = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(texts))
    return [nbformat.v4.new_output("display_data", {"text/markdown": f"```text\n{body}\n```"})]


def render(index):
    """README.md's text: hidden cells, directives and pictures left out, links turned from nbs/ to the root."""
    nb = read(index)
    cells = [cell for cell in nb.cells if "hide" not in cell.directives]
    for cell in cells:
        cell.remove_directives()
        if cell.cell_type == "code":
            cell.outputs = fenced(cell)
    nb = nbformat.from_dict({"metadata": {"language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5, "cells": cells})
    text, _ = MarkdownExporter().from_notebook_node(nb)
    link = re.compile(r'(\]\(|(?:src|href)=")(?![a-z]+:|#|/)([^)"\s]+)')
    text = link.sub(lambda m: m[1] + posixpath.normpath(posixpath.join("nbs", m[2])), text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def main():
    """Write README.md whole or not at all."""
    part = README.with_suffix(".part")
    part.write_text(render(INDEX), encoding="utf-8")
    os.replace(part, README)


if __name__ == "__main__":
    main()
