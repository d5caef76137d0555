"""Values that stand in two places are equal, and the tree keeps its promises about what it names, imports and loads."""
import ast
import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import llmrec
from tests.tools import readme
from tests.tools.export import public_names
from tests.tools.notebooks import ROOT

PARSER = ConfigParser(delimiters=["="], interpolation=None)
PARSER.read(ROOT / "settings.ini", encoding="utf-8")
SETTINGS = PARSER["DEFAULT"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CHECKSUMS = tomllib.loads((ROOT / "data/checksums.toml").read_text())["file"]
MODULES = sorted((ROOT / "llmrec").rglob("*.py"))
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:tmp|work|root|home/\w+|Users/\w+)/[\w.\-/]*")


def shown(*command):
    """What a command prints in the repository."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def tracked_files():
    """Every file that is, or is about to be, in the repository."""
    listed = shown("git", "ls-files", "-co", "--exclude-standard", "-z")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_doubled_values_are_equal():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert SETTINGS["version"] == llmrec.__version__ == citation["version"]
    assert SETTINGS["lib_name"] == PROJECT["project"]["name"] == PROJECT["tool"]["nbdev"]["lib_path"] == citation["title"]
    assert f">={SETTINGS['min_python']}" == PROJECT["project"]["requires-python"]
    assert SETTINGS["license"] == citation["license"]
    assert f"## {SETTINGS['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_requirement_has_a_pin_that_satisfies_it():
    pairs = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    pins = {canonicalize_name(name): version for name, version in pairs}
    wanted = [Requirement(text) for key in SETTINGS if key.endswith("requirements") for text in SETTINGS[key].split()]
    unmet = [str(need) for need in wanted if not need.specifier.contains(pins.get(canonicalize_name(need.name), "0"))]
    assert wanted and not unmet, f"constraints.txt has no fitting pin for {unmet}"


def test_make_help_names_every_target():
    printed = shown("make", "--no-print-directory", "help")
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert [target for target in targets if not re.search(rf"^{target} +\S", printed, re.M)] == []


def test_readme_is_made_from_index():
    assert readme.INDEX.exists(), "nbs/index.ipynb is missing: README.md is made from it"
    text = readme.README.read_text(encoding="utf-8")
    assert text == readme.render(readme.INDEX), "nbs/index.ipynb makes another README.md: run python -m tests.tools.readme"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "data/README.md"])
def test_links_lead_somewhere(name):
    links = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", (ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).exists()] == []


def test_readme_outputs_are_fenced_and_links_start_at_the_root(tmp_path):
    table = new_output("execute_result", {"text/plain": "0  Ikiru", "text/html": "<table>"})
    figure = new_output("display_data", {"image/png": "iVBO", "text/plain": "<Figure>"})
    cells = [
        new_markdown_cell("[data](01_data.ipynb) [words](../GLOSSARY.md#a) [site](https://a.org) ![list](images/list.png)"),
        new_code_cell("#| hide\nsecret = 1"),
        new_code_cell("#| fig-alt: a list\nrecommend()", outputs=[table]),
        new_code_cell("plot()", outputs=[figure]),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "index.ipynb")
    text = readme.render(tmp_path / "index.ipynb")
    links = "[data](nbs/01_data.ipynb) [words](GLOSSARY.md#a) [site](https://a.org) ![list](nbs/images/list.png)"
    code = ["```python\nrecommend()\n```", "```text\n0  Ikiru\n```", "```python\nplot()\n```"]
    assert text == "\n\n".join([links, *code]) + "\n"


def test_no_file_names_a_path_of_somebodys_machine():
    texts = {path: path.read_text(encoding="utf-8", errors="ignore") for path in tracked_files()}
    found = {path.relative_to(ROOT).as_posix(): MACHINE_PATH.findall(text) for path, text in texts.items() if "\0" not in text}
    assert {name: paths for name, paths in found.items() if paths} == {}


def test_import_llmrec_imports_nothing_heavy():
    code = "import sys; before = set(sys.modules); import llmrec; print(*(set(sys.modules) - before))"
    assert set(shown(sys.executable, "-c", code).split()) <= {"llmrec", "lazy_loader", "ast", "_ast"}


def test_every_public_name_can_be_imported_from_the_top():
    named = {name: path for path in MODULES if not path.stem.startswith("_") for name in public_names(path)}
    assert set(named) == set(llmrec.__all__) and {"Hybrid", "evaluate", "TextEncoder"} <= named.keys()
    for name, path in named.items():
        room = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        assert getattr(llmrec, name) is getattr(import_module(room), name), name
        assert getattr(import_module(room.rpartition(".")[0]), name) is getattr(llmrec, name), name


def test_a_wheel_holds_every_package(tmp_path):
    shutil.copytree(ROOT / "llmrec", tmp_path / "llmrec")
    for name in ["setup.py", "settings.ini", "pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy(ROOT / name, tmp_path)
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", "built"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    kinds = {".py", ".pyi", ".toml", ".typed"}
    here, there = ({path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix in kinds}
                   for root in (ROOT / "llmrec", tmp_path / "built/llmrec"))
    assert here == there


def test_help_shows_the_parameters():
    doc = llmrec.evaluate.__doc__
    assert "stage : str, default 'test'\n" in doc and "Returns\n" in doc and "figures per user" in doc


def unsafe_loads(tree):
    """Ways of running foreign code: modules that unpickle, pandas' and torch's loaders, a permission given to others."""
    unpicklers = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (name for name in names if name.split(".")[0] in unpicklers)
        elif isinstance(node, ast.Attribute) and ast.unparse(node).endswith((".read_pickle", "torch.load")):
            yield ast.unparse(node)
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "trust_remote_code"):
            yield from [] if ast.unparse(node.value) == "False" else [ast.unparse(node)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_pickle_is_loaded(path):
    found = list(unsafe_loads(ast.parse(path.read_text())))
    if path.stem == "movielens":  # the one stated exception: the packaged film ratings, whose hash is checked first
        assert len(found) == 1, found
    else:
        assert found == []


@pytest.mark.parametrize("entry", CHECKSUMS, ids=lambda entry: entry["path"])
def test_installed_files_are_the_registered_ones(entry):
    spec = find_spec(entry["package"])
    assert spec, f"{entry['package']} is not installed: make setup"
    path = Path(spec.submodule_search_locations[0]) / entry["path"]
    with open(path, "rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == entry["sha256"]


def test_the_library_knows_the_registered_hashes_only():
    known = {entry["sha256"] for entry in CHECKSUMS}
    used = {digest for path in MODULES for digest in re.findall(r"\b[0-9a-f]{64}\b", path.read_text())}
    assert used and used <= known, f"not in data/checksums.toml: {used - known}"


def test_the_data_card_gives_the_figures_of_the_data(movielens):
    events, items = movielens.interactions, movielens.items
    named = items[items.title != ""]
    tied = events.duplicated(["user_id", "timestamp"], keep=False)
    figures = [
        f"{len(events):,} ratings by {movielens.n_users} users of {movielens.n_items:,} films",
        f"{named.title.duplicated(keep=False).sum()} share it with another film",
        f"{tied.mean():.0%} carry the same second",
        f"({(events.item_id.value_counts() == 1).sum():,}) have a single rating",
    ]
    card = (ROOT / "data/movielens-small-2016.md").read_text()
    assert [figure for figure in figures if figure not in card] == []
    assert len(items) - len(named) == 5 and (~events.item_id.isin(named.item_id)).sum() == 7
    assert named.duplicated(["title", "year"], keep=False).sum() == 4
    assert events.user_id.value_counts().min() == 20
