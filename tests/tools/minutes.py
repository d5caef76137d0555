"""Writes how long each lesson takes to read into its table, the index and README.md: `python -m tests.tools.minutes`."""
import re

import nbformat
from nbdev.clean import nbdev_clean

from tests.tools import readme
from tests.tools.notebooks import NBS, course_notebooks, read

INDEXES = [path for path in course_notebooks() if path.name == "00_index.ipynb"] + [readme.INDEX]
LESSONS = [NBS / "_template.ipynb", *(path for path in course_notebooks() if path not in INDEXES and "exercises" not in path.parts)]
TABLE = re.compile(r"(\| read[^\n]*\n\|[-|: ]+\|\n\| *)([^|\n]+?) *\| *([^|\n]+?) *\|")  # what the first two columns say
LINE = re.compile(r"(\| \[[^]]+\]\(([\w/]+\.ipynb)\)[^|\n]*\|[^|\n]*\|)[^|\n]*\|[^|\n]*\|")


def minutes(path):
    """Minutes to read a notebook: 200 words of text or 15 lines of code take one."""
    cells = read(path).cells
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code").splitlines()
    return round(words / 200 + sum(bool(line.strip()) and not line.startswith("#|") for line in code) / 15)


def in_lesson(path):
    """The second cell of a lesson, with its minutes in the table."""
    return TABLE.sub(lambda m: f"{m[1]}{minutes(path)} min | {m[3]} |", read(path).cells[1].source)


def is_workshop(path):
    """Whether the lesson's table says that it is of the workshop."""
    return "| workshop" in read(path).cells[1].source


def in_index(source, folder=NBS):
    """A cell of an index in `folder`, each lesson's read and run as its own table has them."""
    def row(match):
        _, minutes, run = TABLE.search(read(folder / match[2]).cells[1].source).groups()
        return f"{match[1]} {minutes} | {re.split('[,;(]', run)[0].strip()} |"
    return LINE.sub(row, source)


def save(path, sources):
    """Give the notebook's cells these sources ({number: text})."""
    nb = nbformat.read(path, as_version=4)
    for number, source in sources.items():
        nb.cells[number].source = source
    nbformat.write(nb, path)
    nbdev_clean(str(path))


def main():
    """Lessons first, the indexes from them, README.md from the index of the course."""
    for path in LESSONS:
        save(path, {1: in_lesson(path)})
    for path in INDEXES:
        cells = enumerate(read(path).cells)
        save(path, {number: in_index(cell.source, path.parent) for number, cell in cells if cell.cell_type == "markdown"})
    readme.main()


if __name__ == "__main__":
    main()
