"""Holds every notebook, and the library made from them, to the contract that CONTRIBUTING.md gives to authors."""
import ast
import io
import re
import shutil
import subprocess
import sys
import tokenize
from collections import Counter
from pathlib import Path

import pytest

from tests.tools.minutes import in_index, in_lesson
from tests.tools.notebooks import NBS, ROOT, course_notebooks, key_figures, name_cell, outputs, read

LONGEST_CELL, MOST_CELLS = 40, 65
COURSE = course_notebooks()
INDEX = NBS / "index.ipynb"
EXERCISES = [path for path in COURSE if "exercises" in path.relative_to(NBS).parts]
LESSONS = [NBS / "_template.ipynb", *(path for path in COURSE if path not in [INDEX, *EXERCISES])]
MODULES = sorted(path for path in (ROOT / "llmrec").glob("*.py") if not path.stem.startswith("_"))


def each(paths):
    """Parametrise a test over notebooks or modules, named by their path."""
    return pytest.mark.parametrize("path", paths, ids=[str(path.relative_to(ROOT).with_suffix("")) for path in paths])


def room(path):
    """`08_encoding` -> "08", "encoding", and `03a_leakage` -> "03a", "leakage"; a notebook without a number is in no room."""
    return re.fullmatch(r"(?:(\d\d[a-z]?)?_)?(.+)", path.stem).groups()


def source(path, kind):
    """All cells of one kind as one text."""
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == kind)


@each([*LESSONS, *EXERCISES, *([INDEX] if INDEX in COURSE else [])])
def test_first_cell_is_a_title_and_a_line(path):
    first = read(path).cells[0]
    shape = r"# [^\n]+\n\n(> [^\n]*\n)+"
    assert first.cell_type == "markdown" and re.fullmatch(shape, first.source.rstrip() + "\n"), \
        f"{path.name}: the first cell holds '# Title', an empty line and a '> ' line, nothing else"


@each([*LESSONS, *EXERCISES])
def test_second_cell_says_what_it_takes_and_gives(path):
    second = read(path).cells[1].source
    row = re.search(r"^\| [^|\n]*read[^|\n]* \| run \| needs \| level \|\n\|[-|: ]+\|\n\|(.+)\|$", second, re.M)
    assert row and all(cell.strip() for cell in row[1].split("|")) and row[1].count("|") == 3, \
        f"{path.name}: the second cell has the table '| read | run | needs | level |' with one row"
    assert "**By the end you can**" in second, f"{path.name}: the second cell says '**By the end you can** ...'"


@each(LESSONS)
def test_a_lesson_makes_one_module(path):
    cells = read(path).cells
    names = [cell.directives["default_exp"] for cell in cells if "default_exp" in cell.directives]
    assert names == [room(path)[1]], f"{path.name}: holds '#| default_exp {room(path)[1]}' once, and no other"
    exports = [value for cell in cells for name, value in cell.directives.items() if name.startswith("export")]
    elsewhere = [value for value in exports if value]
    assert not elsewhere, f"{path.name}: exports to other modules: {elsewhere}"
    assert "test_fail(" in source(path, "code"), f"{path.name}: shows at least one wrong call with test_fail"


@each([*LESSONS, *EXERCISES])
def test_cells_are_few_and_short(path):
    cells = read(path).cells
    assert len(cells) <= MOST_CELLS, f"{path.name}: {len(cells)} cells: make it two notebooks"
    exported = [(number, cell) for number, cell in enumerate(cells, 1) if "export" in cell.directives]
    lines = {name_cell(path, number, cell): len(cell.source.splitlines()) for number, cell in exported}
    long = {name: length for name, length in lines.items() if length > LONGEST_CELL}
    assert not long, f"exported cells of more than {LONGEST_CELL} lines: {long}"


def output_faults(path, number, cell):
    """What is wrong with the saved outputs of one code cell."""
    where, found = name_cell(path, number, cell), list(outputs(cell))
    kinds = {kind for kind, _ in found}
    if kinds & {"stderr", "error"}:
        yield f"{where}: carries a warning or an error"
    bars = any(re.search(r"\r(?!\n)|\d%\|", text) for kind, text in found if kind != "text/html")
    if bars or any("widget" in kind for kind in kinds):
        yield f"{where}: carries a widget or a progress bar, which a code-hosting page cannot show"
    if any(kind.startswith("image/") for kind in kinds) and not cell.directives.get("fig-alt"):
        yield f"{where}: shows a picture and needs a line '#| fig-alt: what it shows' at its top"
    if {"slow", "gpu"} & cell.directives.keys() and not found and not cell.source.rstrip().endswith(";"):
        last = ast.parse(cell.source).body[-1]
        if isinstance(last, ast.Expr) and not ast.unparse(last).startswith("test_"):
            yield f"{where}: is left out of `make test`, so it must carry its saved output: run `make notebooks`"


@each([*LESSONS, *EXERCISES, *([INDEX] if INDEX in COURSE else [])])
def test_saved_outputs_read_well(path):
    cells = read(path).cells
    code = [(number, cell) for number, cell in enumerate(cells, 1) if cell.cell_type == "code"]
    faults = [fault for number, cell in code for fault in output_faults(path, number, cell)]
    assert not faults, "\n".join(faults)
    without_alt = r"!\[\s*\]\(|<img(?![^>]*alt=\"[^\"]+\")"
    assert not re.search(without_alt, source(path, "markdown")), f"{path.name}: a picture lacks alternative text"
    assert any(cell.get("outputs") for cell in cells), f"{path.name}: no cell carries an output: run `make notebooks`"


@each(LESSONS)
def test_ending(path):
    prose = source(path, "markdown")
    questions = re.findall(r"<details>\s*<summary>.+?</summary>.+?</details>", prose, re.S)
    assert len(questions) >= 2, f"{path.name}: has at least two self-check questions, each in <details> with its answer"
    for words in ["**What we built**", "**Further reading**"]:
        assert words in prose, f"{path.name}: says {words}"
    *others, last = read(path).cells
    shown = dict(outputs(last)).get("text/plain", "")
    assert key_figures(shown), f"{path.name}: the last cell displays the key figures as a dict of plain values " \
        f"(float(x), not np.float64(x)); it shows {shown!r}"
    lost = [name_cell(path, number, cell) for number, cell in enumerate(others, 1) if "tolerance" in cell.directives]
    assert not lost, f"'#| tolerance:' stands in the last cell, where the figures are; not in {lost}"


@each(LESSONS)
def test_a_lesson_says_how_long_it_takes(path):
    assert read(path).cells[1].source == in_lesson(path), f"{path.name}: not its minutes: run python -m tests.tools.minutes"


def test_index_maps_the_course():
    assert INDEX in COURSE, "nbs/index.ipynb is missing: it maps the course and README.md is made from it"
    prose = source(INDEX, "markdown")
    missing = [path.name for path in LESSONS[1:] if f"({path.name})" not in prose]
    assert not missing, f"index.ipynb links to each lesson as (NN_name.ipynb); not to {missing}"
    assert prose == in_index(prose), "index.ipynb does not have its lessons' minutes: run python -m tests.tools.minutes"


# The library

def imported_rooms(tree):
    """The llmrec modules that a module imports anywhere, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if ours := re.fullmatch(r"(?:llmrec|\.)\.?(\w*)", module):
                yield from [ours[1]] if ours[1] else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("llmrec."))


@each(MODULES)
def test_a_room_imports_only_rooms_above_it(path):
    rooms = {name: number for number, name in map(room, LESSONS[1:])}
    assert path.stem in rooms, f"llmrec/{path.name} comes from no notebook"
    below = [name for name in imported_rooms(ast.parse(path.read_text())) if rooms.get(name, "") >= rooms[path.stem]]
    assert not below, f"{path.stem} (room {rooms[path.stem]}) imports {below}, which is not above it"


def public(tree):
    """Public functions and classes of a module, and the public methods and constructors of those classes."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node.name, node
            for part in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(part, ast.FunctionDef) and (part.name == "__init__" or not part.name.startswith("_")):
                    yield f"{node.name}.{part.name}", part


def to_comment(node):
    """What needs a commented line of its own, as {name: line}: a class's fields, a function's parameters and result."""
    if isinstance(node, ast.ClassDef):
        fields = [field for field in node.body if isinstance(field, ast.AnnAssign)]
        return {field.target.id: field.end_lineno for field in fields if not field.target.id.startswith("_")}
    if any("property" in ast.unparse(decorator) for decorator in node.decorator_list):
        return {}
    args = node.args
    names = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
    lines = {arg.arg: arg.lineno for arg in names if arg and arg.arg not in ("self", "cls")}
    returns = node.returns and ast.unparse(node.returns) != "None"
    return lines | ({"return": node.returns.end_lineno} if returns else {})


@each(MODULES)
def test_public_names_are_documented(path):
    text = path.read_text()
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    commented = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    faults = []
    for name, node in public(ast.parse(text)):
        doc = (ast.get_docstring(node) or "").split("\n")
        if not doc[0] and not name.endswith(".__init__"):
            faults.append(f"{name}: no docstring")
        if len(doc) > 1 and doc[1]:
            faults.append(f"{name}: the docstring's first line stands alone, an empty line after it")
        lines = to_comment(node)
        alone = {line for line, count in Counter(lines.values()).items() if count == 1}
        bare = [part for part, line in lines.items() if line not in alone & commented]
        faults += [f"{name}: a line of its own, with a comment, for each of: {', '.join(bare)}"] if bare else []
    assert not faults, f"llmrec/{path.name}:\n" + "\n".join(faults)


# What nbdev makes of the notebooks, in a copy

@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the notebooks and an empty library, in which nbdev has exported and cleaned."""
    tmp = tmp_path_factory.mktemp("copy")
    for path in COURSE:
        (tmp / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp / path.relative_to(ROOT))
    shutil.copy(ROOT / "pyproject.toml", tmp)
    (tmp / "llmrec").mkdir()
    shutil.copy(ROOT / "llmrec/__init__.py", tmp / "llmrec")
    for command in ["nbdev-export", "nbdev-clean"]:
        done = subprocess.run([Path(sys.executable).parent / command], cwd=tmp, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return tmp


def test_export_is_in_sync(copy):
    here, there = ({path.name: path.read_text() for path in (root / "llmrec").glob("*.py")} for root in (ROOT, copy))
    assert here.keys() == there.keys(), "a module has no notebook, or a notebook was not exported: run nbdev-export"
    differing = [name for name in here if here[name] != there[name]]
    assert not differing, f"llmrec/ is not what the notebooks export: run nbdev-export; differing: {differing}"


def test_notebooks_are_clean(copy):
    unclean = [path.name for path in COURSE if path.read_bytes() != (copy / path.relative_to(ROOT)).read_bytes()]
    assert not unclean, f"run nbdev-clean; it would change {unclean}"
