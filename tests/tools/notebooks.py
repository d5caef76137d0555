"""Runs the course notebooks: `make notebooks` saves their outputs with it, tests/test_notebooks.py compares them."""
import ast
import difflib
import math
import os
import re
import sys
import time
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path

import nbformat
from fastcore.nbio import dict2nb, does_cell_eval
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbdev.clean import nbdev_clean
from nbdev.config import get_config

ROOT = Path(__file__).parents[2]
NBS = ROOT / "nbs"
SKIP_FLAGS = set(get_config(path=ROOT).tst_flags.split())  # cells with one of these directives are left out of `make test`
TINY = 1e-6  # what is smaller is 0, computed

NUMBER = re.compile(r"(?<![\w.])([-+−]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?))")
TIME = r"(?<![\w.])(?:\d+(?:\.\d+)? ?(?:ns|[µμu]s|ms|seconds?|min(?:utes?)?)|\d+\.\d+s|\d+(?:\.\d+)? s)\b"
NOISE = [
    (r"\x1b\[[0-9;?]*[A-Za-z]", ""),                                              # ANSI colours
    (r"\b0x[0-9a-fA-F]+", "0xADDRESS"),
    (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID"),
    (r"\bT_[0-9a-f]{5}", "T_STYLE"),                                              # pandas' styled tables
    (TIME, "TIME"),
    (r"([-─━═])\1{2,}", r"\1\1\1"),                                               # rules as wide as their table
    (r"\s+", " "),
    (r" (?=[,\])])|(?<=[\[(]) ", ""),                                             # how far NumPy pads a number
]


class NotebookError(Exception):
    """A notebook that stopped: which cell, and why."""


def course_notebooks(nbs=NBS):
    """Every notebook of the course; names that begin with `_` or `.` are templates, student versions and checkpoints."""
    paths = sorted(Path(nbs).rglob("*.ipynb"))
    return [path for path in paths if not any(part.startswith(("_", ".")) for part in path.relative_to(nbs).parts)]


def read(path):
    """The notebook at `path`, each cell knowing its nbdev `directives` (`#| slow`, `#| fig-alt: ...`)."""
    return dict2nb(nbformat.read(path, as_version=4))


def is_skipped(cell, skip_flags):
    """Whether a run leaves this code cell, and its saved outputs, alone."""
    return not does_cell_eval(cell, True) or bool(skip_flags & cell.directives.keys())


def name_cell(path, number, cell):
    """`02_language/03_encoding.ipynb, cell 12 (vectors = encoder.transform(texts))`; cells of all types are counted from 1."""
    lines = [line for line in cell.source.splitlines() if line.strip() and not line.startswith("#|")]
    return f"{Path(path).name}, cell {number} ({lines[0][:80] if lines else 'empty'})"


def run(path, skip_flags=SKIP_FLAGS, timeout=None):
    """Execute the notebook at `path` in a fresh kernel and its own folder, as JupyterLab does; return it with new outputs.

    `timeout` is for the whole notebook, in seconds. Raises `NotebookError` where a cell fails or the time is up."""
    nb, cells = nbformat.read(path, as_version=4), read(path).cells
    tags = [cell.metadata.get("tags") for cell in nb.cells]
    for cell, parsed in zip(nb.cells, cells):
        if is_skipped(parsed, skip_flags):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "skip-execution"]
    deadline = timeout and time.monotonic() + timeout
    client = NotebookClient(
        nb, resources={"metadata": {"path": str(Path(path).parent)}}, coalesce_streams=True, store_widget_state=False,
        timeout_func=lambda cell: deadline and max(1, math.ceil(deadline - time.monotonic())),
        extra_arguments=["--log-level=ERROR"],
    )
    started = []
    client.on_cell_start = lambda cell, cell_index: started.append(cell_index)
    # Agg is for tests: in a notebook, figures are shown.
    env = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"} | {"HF_HUB_OFFLINE": "1"}
    try:
        client.execute(env=env)
    except (CellExecutionError, CellTimeoutError) as error:
        late = f"the notebook takes more than {timeout} s: make it lighter, or flag its heavy cells `#| slow`"
        reason = late if isinstance(error, CellTimeoutError) else re.sub(NOISE[0][0], "", str(error))
        raise NotebookError(f"{name_cell(path, started[-1] + 1, cells[started[-1]])}: {reason}") from None
    for cell, own in zip(nb.cells, tags):
        if own is None:
            cell.metadata.pop("tags", None)
        else:
            cell.metadata["tags"] = own
    return nb


def sanitise(text):
    """`text` without what differs between two good runs: addresses, times, colours, generated ids, spacing."""
    for pattern, replacement in NOISE:
        text = re.sub(pattern, replacement, text)
    return text.strip()


def same_number(x, y, size, units):
    """Whether decimal numbers differ by at most `size` ("2%", or ".01", absolute) or so many `units` of the last digit.

    Whole numbers are counts and equal, unless `units` is 0, where a lesson itself states the size."""
    x, y = (number.replace(",", "").replace("−", "-").rstrip(".") for number in (x, y))  # NumPy shows 3.0 as 3.
    if units and all(number.lstrip("+-").isdigit() for number in (x, y)):
        return float(x) == float(y)
    last = min(Decimal(x).as_tuple().exponent, Decimal(y).as_tuple().exponent)
    x, y, unit = float(x), float(y), 10.0 ** last if last < 0 else 0
    size = float(size.rstrip("%")) * (abs(x) / 100 if size.endswith("%") else 1)
    return abs(x - y) <= max(size, units * unit, TINY) * (1 + 1e-9)


def same_text(saved, fresh, size="2%", units=2):
    """Equal words, as many numbers, and each number the same."""
    a, b = (NUMBER.split(sanitise(text)) for text in (saved, fresh))
    return a[::2] == b[::2] and all(same_number(x, y, size, units) for x, y in zip(a[1::2], b[1::2]))


def key_figures(text):
    """The dict of plain values that `text` shows; an empty one if it shows anything else."""
    try:
        shown = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return {}
    return shown if isinstance(shown, dict) else {}


def compare_figures(before, after, source):
    """What is wrong with the figures `after`, by those `before` and the lines `#| tolerance:` in the cell's source."""
    parts = [part.rpartition("=") for line in re.findall(r"^#\| *tolerance:(.*)", source, re.M) for part in line.split(",")]
    stated = {name.strip(): size.strip() for name, _, size in parts}
    for name in stated:
        if not any(fnmatchcase(figure, name) for figure in before):
            yield f"tolerance: no figure is named {name!r}; there are {list(before)}"
    if list(before) != list(after):
        yield f"saved are the figures {list(before)}, this run gives {list(after)}"
    for figure in (name for name in before if name in after):
        size = next((size for name, size in stated.items() if fnmatchcase(figure, name)), None)
        x, y = repr(before[figure]), repr(after[figure])
        if not same_text(x, y, size or "1%", 0 if size else 1):
            yield f"{figure}: saved is {x}, this run gives {y}; the tolerance is {size or '1%, and 0 for whole numbers'}"


def outputs(cell):
    """A cell's outputs as (kind, text): kind is a stream, `error` or a MIME type; of pictures only the presence counts."""
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            yield output.name, output.text
        elif output.output_type == "error":
            yield "error", f"{output.ename}: {output.evalue}"
        else:
            for kind, data in sorted(output.data.items()):
                yield kind, data if kind.startswith("text/") else ""


def compare(path, saved, fresh):
    """Where the outputs of the notebook `fresh` are not those of `saved`: a list of complaints, empty if all is well."""
    complaints = []
    for number, (old, new) in enumerate(zip(saved.cells, fresh.cells, strict=True), start=1):
        where, before, after = name_cell(path, number, old), list(outputs(old)), list(outputs(new))
        complaints += [f"{where}: writes to stderr, or fails:\n{text}" for kind, text in after if kind in ("stderr", "error")]
        if "no-compare" in old.metadata.get("tags", []):
            continue
        if [kind for kind, _ in before] != [kind for kind, _ in after]:
            complaints.append(f"{where}: saved are {[k for k, _ in before]}, this run gives {[k for k, _ in after]}")
            continue
        for (kind, a), (_, b) in zip(before, after):
            if kind == "text/plain" and old is saved.cells[-1] and (figures := key_figures(a)):
                complaints += [f"{where}: {fault}" for fault in compare_figures(figures, key_figures(b), old.source)]
            elif not same_text(a, b):
                lines = difflib.unified_diff(a.splitlines(), b.splitlines(), "saved", "this run", lineterm="", n=1)
                complaints.append("\n".join([f"{where}: {kind} differs", *lines]))
    return complaints


def main(paths):
    """Execute each notebook, slow cells too, save its outputs and clean it; README.md follows its notebook."""
    import torch

    from tests.tools import readme

    skip_flags = SKIP_FLAGS - {"slow"} - ({"gpu"} if torch.cuda.is_available() else set())
    failures = []
    for path in paths:
        start = time.monotonic()
        try:
            nbformat.write(run(path, skip_flags), path)
            nbdev_clean(str(path))
        except NotebookError as error:
            failures.append(str(error))
        print(f"{time.monotonic() - start:6.1f} s  {path.relative_to(ROOT)}", flush=True)
        if path == readme.INDEX:
            readme.main()
    if failures:
        sys.exit("\n\n".join(["Not saved:", *failures]))


if __name__ == "__main__":
    main([Path(name).resolve() for name in sys.argv[1:]] or course_notebooks())
