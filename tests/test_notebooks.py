"""The regression net: every notebook runs in a fresh kernel and shows what its committed outputs show."""
from copy import deepcopy

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.tools.notebooks import NBS, SKIP_FLAGS, NotebookError, compare, course_notebooks, run, same_text

LONGEST = 240  # seconds, for one notebook beside other tests, with nothing in the cache


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
    "import pandas as pd; pd.DataFrame({'score': [0.5]})",
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


CHANGES = [(1, "0.12345", "0.12445"), (1, "100004", "100005"), (1, "ndcg", "recall"), (3, "score", "rank")]


@pytest.mark.parametrize("cell, old, new", CHANGES)
def test_a_changed_figure_or_word_is_caught(small, cell, old, new):
    path, saved = small
    [complaint] = compare(path, saved, changed(saved, cell, old, new))
    assert f"small.ipynb, cell {cell + 1}" in complaint
    assert f"-{saved.cells[cell].outputs[0].data['text/plain'].splitlines()[0]}" in complaint


@pytest.mark.parametrize("cell, old, new", [(1, "0.12345", "0.12346"), (0, "1.5 s", "0.9 s"), (0, "0x", "0xa")])
def test_last_digits_times_and_addresses_may_differ(small, cell, old, new):
    path, saved = small
    assert compare(path, saved, changed(saved, cell, old, new)) == []


def test_the_last_digit_of_an_array_may_round_to_a_zero():
    assert same_text("array([-0.0280166 , 0.5 ])", "array([-0.02801658,  0.50000001])") and same_text("[ 1. -2.]", "[1. -2.]")
    assert not same_text("array([0.1, 0.2])", "array([0.1, 0.3])") and not same_text("array([0.1, 0.2])", "array([0.1, 0.2, 0.3])")


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
