"""Holds every notebook, and the library made from them, to the contract that CONTRIBUTING.md gives to authors."""
import ast
import io
import os
import re
import shutil
import subprocess
import sys
import tokenize
from collections import Counter
from pathlib import Path

import pytest

from tests.tools.export import public_names
from tests.tools.minutes import in_index, in_lesson, is_workshop
from tests.tools.notebooks import NBS, ROOT, course_notebooks, key_figures, name_cell, outputs, read

LONGEST_CELL, MOST_CELLS = 40, 65
COURSE = course_notebooks()
INDEX = NBS / "index.ipynb"
CHAPTERS = [path for path in COURSE if path.name == "00_index.ipynb"]
EXERCISES = [path for path in COURSE if "exercises" in path.relative_to(NBS).parts]
FIRST = [path for path in COURSE if path.parent.name == "00_start"]  # uses the library and exports nothing
ROOMS = [path for path in COURSE if path not in [INDEX, *CHAPTERS, *EXERCISES, *FIRST]]
LESSONS = [NBS / "_template.ipynb", *ROOMS]
FOUNDATIONS = ["data.checks", "data.files", "data.tables", "language.cache", "lists.rerankers", "lists.shares"]  # taught in the workshop; the other rooms of the chapter stand on them
LIBRARY = ROOT / "llmrec"


def each(paths):
    """Parametrise a test over notebooks or modules, named by their path."""
    return pytest.mark.parametrize("path", paths, ids=[str(path.relative_to(ROOT).with_suffix("")) for path in paths])


def modules(library):
    """Every module of the library, in whatever package, but the ones that nbdev writes for itself."""
    return sorted(path for path in library.rglob("*.py") if not path.stem.startswith("_"))


MODULES = modules(LIBRARY)


def room(path):
    """The room that a lesson makes: `01_data/02_text.ipynb` is data.text, and the template is template."""
    return ".".join(re.sub(r"^\d*_", "", part) for part in path.relative_to(NBS).with_suffix("").parts)


def module(path, library=LIBRARY):
    """The room that a file of the library holds: `data/text.py` is data.text."""
    return ".".join(path.relative_to(library).with_suffix("").parts)


def order(rooms):
    """{room: its place}: chapter by chapter, foundations first, then as they are read."""
    chapters = list(dict.fromkeys(name.split(".")[0] for name in rooms))
    rooms = sorted(rooms, key=lambda name: (chapters.index(name.split(".")[0]), name not in FOUNDATIONS))
    return {name: place for place, name in enumerate(rooms)}


def source(path, kind):
    """All cells of one kind as one text."""
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == kind)


@each([*LESSONS, *FIRST, *EXERCISES, *CHAPTERS, INDEX])
def test_first_cell_is_a_title_and_a_line(path):
    first = read(path).cells[0]
    shape = r"# [^\n]+\n\n(> [^\n]*\n)+"
    assert first.cell_type == "markdown" and re.fullmatch(shape, first.source.rstrip() + "\n"), \
        f"{path.name}: the first cell holds '# Title', an empty line and a '> ' line, nothing else"


@each([*LESSONS, *FIRST, *EXERCISES])
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
    assert names == [room(path)], f"{path.name}: holds '#| default_exp {room(path)}' once, and no other"
    exports = [value for cell in cells for name, value in cell.directives.items() if name.startswith("export")]
    elsewhere = [value for value in exports if value]
    assert not elsewhere, f"{path.name}: exports to other modules: {elsewhere}"
    assert "test_fail(" in source(path, "code"), f"{path.name}: shows at least one wrong call with test_fail"


@each([*LESSONS, *FIRST, *EXERCISES])
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


@each([*LESSONS, *FIRST, *EXERCISES, INDEX])
def test_saved_outputs_read_well(path):
    cells = read(path).cells
    code = [(number, cell) for number, cell in enumerate(cells, 1) if cell.cell_type == "code"]
    faults = [fault for number, cell in code for fault in output_faults(path, number, cell)]
    assert not faults, "\n".join(faults)
    without_alt = r"!\[\s*\]\(|<img(?![^>]*alt=\"[^\"]+\")"
    assert not re.search(without_alt, source(path, "markdown")), f"{path.name}: a picture lacks alternative text"
    assert any(cell.get("outputs") for cell in cells), f"{path.name}: no cell carries an output: run `make notebooks`"


@each([*LESSONS, *FIRST])
def test_ending(path):
    prose = source(path, "markdown")
    questions = re.findall(r"<details>\s*<summary>.+?</summary>.+?</details>", prose, re.S)
    assert len(questions) >= 2, f"{path.name}: has at least two self-check questions, each in <details> with its answer"
    for words in ["**What we built**" if path in LESSONS else "**What you saw**", "**Further reading**"]:
        assert words in prose, f"{path.name}: says {words}"
    *others, last = read(path).cells
    shown = dict(outputs(last)).get("text/plain", "")
    assert key_figures(shown), f"{path.name}: the last cell displays the key figures as a dict of plain values " \
        f"(float(x), not np.float64(x)); it shows {shown!r}"
    lost = [name_cell(path, number, cell) for number, cell in enumerate(others, 1) if "tolerance" in cell.directives]
    assert not lost, f"'#| tolerance:' stands in the last cell, where the figures are; not in {lost}"


@each([*LESSONS, *FIRST])
def test_a_lesson_says_how_long_it_takes(path):
    assert read(path).cells[1].source == in_lesson(path), f"{path.name}: not its minutes: run python -m tests.tools.minutes"


@each([INDEX, *CHAPTERS])
def test_index_maps_its_lessons(path):
    prose, lessons = source(path, "markdown"), [*FIRST, *ROOMS] if path == INDEX else [lesson for lesson in ROOMS if lesson.parent == path.parent]
    missing = [name for name in (lesson.relative_to(path.parent).as_posix() for lesson in lessons) if f"({name})" not in prose]
    assert not missing, f"{path.name} links to each lesson by its path; not to {missing}"
    assert prose == in_index(prose, path.parent), f"{path.name} does not have its lessons' minutes: run python -m tests.tools.minutes"


def test_lessons_are_numbered_without_gaps_and_the_workshop_comes_last():
    for folder in sorted({path.parent for path in [*FIRST, *ROOMS]}):
        lessons = sorted(path for path in folder.glob("*.ipynb") if path.name != "00_index.ipynb")
        assert [path.name[:2] for path in lessons] == [f"{n:02}" for n in range(1, len(lessons) + 1)], folder.name
        workshop = [is_workshop(path) for path in lessons]
        assert workshop == sorted(workshop), f"{folder.name}: workshop lessons stand at the end: {workshop}"


# The library

def imported_rooms(tree, here):
    """The rooms that a module, `here` ("data.text"), imports anywhere, inside functions too; and the names it takes from each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = here.split(".")[:-node.level] if node.level else []
            parts = [*(["llmrec", *above] if node.level else []), *(node.module or "").split(".")]
            parts = [part for part in parts if part]
            if parts[0] == "llmrec":
                yield ".".join(parts[1:]), [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name.removeprefix("llmrec").lstrip("."), []) for alias in node.names if alias.name.split(".")[0] == "llmrec")


def defined(tree):
    """The names that a module gives a value to: by def, class or assignment, not by import."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def import_faults(library, rooms):
    """What is wrong with the imports between the rooms of `library`: rooms not before the importing one, names taken by a detour."""
    places, trees = order(rooms), {module(path, library): ast.parse(path.read_text()) for path in modules(library)}
    for here, tree in trees.items():
        if here not in places:
            yield f"{here} comes from no notebook"
            continue
        for name, taken in imported_rooms(tree, here):
            if places.get(name, len(places)) >= places[here]:
                yield f"{here} imports {name or 'llmrec'}, which is no room before it"
            elif away := set(taken) - set(defined(trees[name])):
                yield f"{here} takes {sorted(away)} from {name}, where they are not defined"


def test_a_room_imports_only_rooms_before_it_and_each_name_from_its_own():
    faults = list(import_faults(LIBRARY, [room(path) for path in ROOMS]))
    assert not faults, "\n".join(faults)


def test_the_packages_import_each_other_one_way():
    edges = {(name.split(".")[0], module(path).split(".")[0]) for path in MODULES
             for name, _ in imported_rooms(ast.parse(path.read_text()), module(path))}
    chapters = list(dict.fromkeys(room(path).split(".")[0] for path in ROOMS))
    back = [(above, below) for above, below in edges if chapters.index(above) > chapters.index(below)]
    assert not back, f"packages that import a later one: {back}"


PLANTED = [
    ("from ..late.second import thing", "early.first imports late.second, which is no room before it"),
    ("def lazy():\n    from llmrec.late.second import thing", "early.first imports late.second, which is no room before it"),
    ("import llmrec.late.second", "early.first imports late.second, which is no room before it"),
    ("from llmrec import thing", "early.first imports llmrec, which is no room before it"),
    ("from .zeroth import borrowed", "early.first takes ['borrowed'] from early.zeroth, where they are not defined"),
    ("from .zeroth import own", None),
]


@pytest.mark.parametrize("line, fault", PLANTED)
def test_a_planted_import_is_found(tmp_path, line, fault):
    for name, text in [("early/zeroth", "from os import path as borrowed\nown = 1"), ("early/first", line), ("late/second", "def thing(): pass")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(text)
    assert list(import_faults(tmp_path, ["early.zeroth", "early.first", "late.second"])) == ([fault] if fault else [])


def test_public_names_are_unique():
    names = Counter(name for path in MODULES for name in public_names(path))
    twice = {name: [module(path) for path in MODULES if name in public_names(path)] for name, count in names.items() if count > 1}
    assert not twice, f"names that two rooms share: {twice}"
    parts = {part for path in MODULES for part in module(path).split(".")}
    assert not parts & set(names), f"names that are also a room's: {sorted(parts & set(names))}"


def attached(tree):
    """Methods that are given to a class after its definition; a constant, in capitals, may have its attributes set."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            parts = [part for target in node.targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
            yield from (ast.unparse(part) for part in parts if isinstance(part, ast.Attribute) and not ast.unparse(part.value).isupper())
        elif isinstance(node, ast.FunctionDef):
            yield from (ast.unparse(way) for way in node.decorator_list if ast.unparse(way).startswith("patch"))


@each(MODULES)
def test_a_class_stands_whole(path):
    found = list(attached(ast.parse(path.read_text())))
    assert not found, f"{module(path)}: attached after the class was defined: {found}"


def test_an_attached_method_is_found():
    planted = "class Model: pass\nModel.fit, b = fit, 1\nSHORT.most = 9\n@patch\ndef f(self: Model): pass"
    assert list(attached(ast.parse(planted))) == ["Model.fit", "patch"]


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
    assert not faults, f"{module(path)}:\n" + "\n".join(faults)


# What nbdev makes of the notebooks, in a copy

def exported(root):
    """Everything that an export writes below `root`, by path."""
    kinds = (".py", ".pyi")
    return {path.relative_to(root).as_posix(): path.read_text() for path in sorted((root / "llmrec").rglob("*")) if path.suffix in kinds}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the notebooks and an empty library, in which nbdev has exported and cleaned."""
    tmp = tmp_path_factory.mktemp("copy")
    for path in COURSE:
        (tmp / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp / path.relative_to(ROOT))
    shutil.copy(ROOT / "pyproject.toml", tmp)
    (tmp / "llmrec").mkdir()
    for name in ["__init__.py", "__init__.pyi", "_docstrings.py"]:  # what is written by hand, and the stub that importing needs
        shutil.copy(ROOT / "llmrec" / name, tmp / "llmrec")
    run = {"cwd": tmp, "capture_output": True, "text": True, "env": os.environ | {"PYTHONPATH": str(ROOT)}}
    for command in [[sys.executable, "-m", "tests.tools.export"], [Path(sys.executable).parent / "nbdev-clean"]]:
        done = subprocess.run(command, **run)
        assert done.returncode == 0, done.stderr
    return tmp


def sync_faults(here, there):
    """How the library `here` differs from the one that the notebooks export, `there`: lines, none if it does not."""
    left_over, lacking = sorted(here.keys() - there.keys()), sorted(there.keys() - here.keys())
    differing = sorted(name for name in here.keys() & there.keys() if here[name] != there[name])
    named = {"comes from no notebook": left_over, "was not exported": lacking, "is not what the notebook exports": differing}
    return [f"{name} {fault}" for fault, names in named.items() for name in names]


def test_export_is_in_sync(copy):
    faults = sync_faults(exported(ROOT), exported(copy))
    assert not faults, "run python -m tests.tools.export:\n" + "\n".join(faults)


def test_a_planted_difference_is_found(copy):
    there = exported(copy)
    here = there | {"llmrec/data/text.py": "spoilt", "llmrec/judging.py": "left over"}
    del here["llmrec/data/checks.py"]
    assert sync_faults(here, there) == ["llmrec/judging.py comes from no notebook", "llmrec/data/checks.py was not exported",
                                        "llmrec/data/text.py is not what the notebook exports"]


def test_notebooks_are_clean(copy):
    unclean = [path.name for path in COURSE if path.read_bytes() != (copy / path.relative_to(ROOT)).read_bytes()]
    assert not unclean, f"run nbdev-clean; it would change {unclean}"
