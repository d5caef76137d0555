"""The regression net: every notebook runs in a fresh kernel and shows what its committed outputs show."""
import os
from copy import deepcopy

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.tools.notebooks import NBS, SKIP_FLAGS, NotebookError, compare, course_notebooks, run, same_text

LONGEST = int(os.environ.get("LONGEST", 400))  # seconds, for one notebook beside other tests, with nothing in the cache

ALL = [*course_notebooks(), NBS / "_template.ipynb"]


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(NBS).with_suffix("")))
def test_outputs_are_the_committed_ones(path):
    complaints = compare(path, nbformat.read(path, as_version=4), run(path, timeout=LONGEST))
    if complaints:
        pytest.fail("\n\n".join(complaints), pytrace=False)


# The test of the test, on a small notebook.

CELLS = [
    "print('took 1.5 s at', object())",
    "{'ndcg': 0.12345, 'users': 100004}",
    "#| slow\n1 / 0",
    "import pandas as pd; pd.DataFrame({'score': [0.5, 0.25, 0.125]})",
    "#| tolerance: seconds=20%, ga*=.01\ndict(rmse=0.96512, n=7, best='EASE', seconds=2.5, gain={'test': 0.104, 'draws': 40.5})",
]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "small.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in CELLS]), path)
    return path, run(path, SKIP_FLAGS)


def changed(nb, cell, old, new):
    """A copy of `nb` in which an output of `cell` shows `new` for `old`."""
    nb = deepcopy(nb)
    text = nb.cells[cell].outputs[0]
    holder, key = (text, "text") if text.output_type == "stream" else (text.data, "text/plain")
    assert old in holder[key]
    holder[key] = holder[key].replace(old, new)
    return nb


def test_two_runs_are_the_same(small):
    path, saved = small
    assert compare(path, saved, run(path, SKIP_FLAGS)) == []
    assert not saved.cells[2].outputs  # the slow cell was left alone
    assert "tags" not in saved.cells[2].metadata


CHANGES = [
    (1, "0.12345", "0.12745"), (1, "100004", "100005"), (1, "ndcg", "recall"), (3, "score", "rank"),  # 3%; a count; words
    (3, "0.250", "0.253, 0.25"), (3, "2  0.125", ""),                                                  # another shape
    (4, "0.96512", "0.97612"), (4, "0.96512", "1"), (4, "7", "8"), (4, "EASE", "SLIM"), (4, "n'", "m'"),
    (4, "2.5", "3.1"), (4, "0.104", "0.1141"), (4, "40.5", "40.52"), (4, "draws", "users"),
]


@pytest.mark.parametrize("cell, old, new", CHANGES)
def test_a_changed_figure_word_or_shape_is_caught(small, cell, old, new):
    path, saved = small
    complaint, *_ = compare(path, saved, changed(saved, cell, old, new))
    assert f"small.ipynb, cell {cell + 1}" in complaint and old.strip("'") in complaint


@pytest.mark.parametrize("cell, old, new", [
    (1, "0.12345", "0.12545"), (0, "1.5 s", "0.9 s"), (0, "0x", "0xa"), (3, "0.125", "0.127"),
    (4, "0.96512", "0.97412"), (4, "2.5", "2.9"), (4, "0.104", "0.114"),
])
def test_what_is_within_the_tolerance_may_differ(small, cell, old, new):
    path, saved = small
    assert compare(path, saved, changed(saved, cell, old, new)) == []


def test_a_tolerance_for_an_unknown_figure_is_caught(small):
    path, saved = small
    saved = deepcopy(saved)
    saved.cells[4].source = saved.cells[4].source.replace("seconds=20%", "second=20%")
    [complaint] = compare(path, saved, saved)
    assert "cell 5" in complaint and "no figure is named 'second'; there are ['rmse', 'n', 'best'" in complaint


SAME = [
    ("[.050, -.0028]", "[.052, -.0030]"), ("0.31 of 8.00", "0.33 of 8.16"), ("0.004", "0.006"),  # two units of the last digit, or 2%
    ("-0.0, 0.00", "0.0, -0.00"), ("+0.01", "-0.01"), ("1.3e-17", "-4e-17"),                     # signs near zero
    ("array([-0.0280166 , 0.5 ])", "array([-0.02801658,  0.50000001])"), ("[ 1. -2.]", "[1. -2.]"),
    ("[1. 0.]", "[ 9.9999994e-01 -1.2000000e-09]"), ("a | 0.5\n---|----", "a  | 0.50\n----|-----"), ("−0.31", "-0.32"),
]
OTHER = [
    ("[.050, -.0028]", "[.053, -.0028]"), ("[.050, -.0028]", "[.050, -.0031]"), ("[.050, -.0028]", "[.050, .0028]"),
    ("8.00", "8.17"), ("0.004", "0.007"), ("1,000 rows", "1,001 rows"), ("all 1000.", "all 1001."), ("[1. 0.]", "[1. 1.]"),
    ("array([0.12, 0.2])", "array([0.12, 0.2, 0.2])"), ("[1 2]", "[1 3]"), ("1e-05", "9e-05"), ("B07", "B08"), ("−0.31", "0.31"),
]


@pytest.mark.parametrize("saved, fresh", SAME)
def test_texts_that_are_the_same(saved, fresh):
    assert same_text(saved, fresh)


@pytest.mark.parametrize("saved, fresh", OTHER)
def test_texts_that_are_not_the_same(saved, fresh):
    assert not same_text(saved, fresh)


def test_a_missing_output_is_caught(small):
    path, saved = small
    fresh = deepcopy(saved)
    fresh.cells[1].outputs = []
    [complaint] = compare(path, saved, fresh)
    assert "saved are ['text/plain'], this run gives []" in complaint


def test_no_compare_forgives_figures_but_not_stderr(small):
    path, saved = small
    saved = deepcopy(saved)
    saved.cells[1].metadata["tags"] = ["no-compare"]
    fresh = changed(saved, 1, "0.12345", "0.5")
    assert compare(path, saved, fresh) == []
    fresh.cells[1].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="FutureWarning: soon"))
    [complaint] = compare(path, saved, fresh)
    assert "stderr" in complaint and "FutureWarning: soon" in complaint


STOPS = [("import time; time.sleep(60)", 3, "takes more than 3 s"), ("1 / 0", 60, "ZeroDivisionError")]


@pytest.mark.parametrize("source, timeout, reason", STOPS)
def test_a_notebook_that_stops_says_where(tmp_path, source, timeout, reason):
    path = tmp_path / "stops.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1"), new_code_cell(source)]), path)
    with pytest.raises(NotebookError, match=reason) as caught:
        run(path, timeout=timeout)
    assert str(caught.value).startswith(f"stops.ipynb, cell 2 ({source})")
