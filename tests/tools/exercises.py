"""Makes the student versions of the exercises with nbgrader (`make exercises`), and grades what comes back."""
import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import nbformat
from nbgrader.apps import NbGraderAPI
from traitlets.config import Config

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "nbs/exercises/source"
RELEASE = ROOT / "nbs/exercises/_release"
RUNNER = Path(__file__).with_name("run_answers.py")
UNSEEN = "its checks did not run: the process ended before them, or was too slow"


class ExerciseError(Exception):
    """What nbgrader could not do, in its words, or why a submission is not graded."""


class Mark(NamedTuple):
    """What one student gets for one task; `error` is why the check failed, empty if it passed."""
    score: float
    max_score: float
    error: str


def assignments():
    """The names of all assignments."""
    return sorted(path.parent.name for path in SOURCE.glob("*/*.ipynb"))


def succeed(result):
    """Raise `ExerciseError` if a call of nbgrader's API did not succeed."""
    if not result["success"]:
        raise ExerciseError(result.get("log") or result["error"])


@contextmanager
def course():
    """nbgrader's API on a copy of all assignments, their student versions made; the folder goes away afterwards."""
    # nbgrader calls alembic by its bare name, and the environment need not be activated.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, PATH=path):
        root = Path(folder).resolve()
        shutil.copytree(SOURCE, root / "source", ignore=shutil.ignore_patterns(".*"))
        config = Config()
        config.CourseDirectory.root = config.Exchange.root = config.Exchange.cache = str(root)
        config.Execute.timeout = 180  # seconds for one cell; nbgrader's own 30 are too few on a busy machine
        api = NbGraderAPI(config=config, log_level="ERROR")
        for assignment in assignments():
            succeed(api.generate_assignment(assignment))
        yield api, root


def put(new, target):
    """Copy `new` to `target` in one step; say False, and leave it, if there is another text already."""
    if target.exists():
        return target.read_bytes() == new.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    shutil.copy(new, part)
    os.replace(part, target)
    return True


def release(out=RELEASE):
    """Write the student version of every assignment to the folder `out`; return {path: whether it is the fresh one}.

    A file that differs from the fresh one is kept: somebody may have worked in it."""
    with course() as (_, root):
        fresh = [path for path in sorted((root / "release").rglob("*")) if path.is_file()]
        targets = [Path(out) / path.relative_to(root / "release") for path in fresh]
        return {target: put(path, target) for path, target in zip(fresh, targets)}


def read_source(assignment):
    """The notebook that the teacher wrote, hidden tests and solutions included."""
    return nbformat.read(SOURCE / assignment / f"{assignment}.ipynb", as_version=4)


def grade_id(cell):
    """The name that nbgrader knows a code cell by, None if it is the student's own."""
    return cell.metadata.get("nbgrader", {}).get("grade_id") if cell.cell_type == "code" else None


def prepare(assignment, submission):
    """The code cells of `submission` as dicts of kind, task and source: answers as handed in, others as in the source.

    Raises `ExerciseError` unless it has the cells of the student version, each once and in their order."""
    source = {grade_id(cell): cell for cell in read_source(assignment).cells if grade_id(cell)}
    found = [grade_id(cell) for cell in submission.cells if grade_id(cell)]
    if found != list(source):
        raise ExerciseError(f"cells are missing, doubled or moved: {', '.join(found)}; expected {', '.join(source)}")
    cells = []
    for cell in [cell for cell in submission.cells if cell.cell_type == "code"]:
        kept = source.get(grade_id(cell), cell)
        about = kept.metadata.get("nbgrader", {})
        kind = "graded" if about.get("grade") else "locked" if about.get("locked") else "open"
        answer = cell if kind == "open" else kept
        cells.append({"kind": kind, "task": grade_id(cell), "source": answer.source})
    return cells


def grade(assignment, submission, seconds=300):
    """Run `submission` in a process and an empty folder of its own, for at most `seconds`; return {task: Mark}."""
    token = secrets.token_hex()  # a report without it is not our runner's
    job = json.dumps({"token": token, "cells": prepare(assignment, submission)})
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    settings = {"env": os.environ | {"PYTHONPATH": paths, "MPLBACKEND": "Agg"}, "timeout": seconds,
                "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as folder:
        try:
            command = [sys.executable, "-P", str(RUNNER)]
            written = subprocess.run(command, input=job.encode(), cwd=folder, **settings).stdout
        except subprocess.TimeoutExpired as late:
            written = late.stdout or b""
    lines = [line for line in written.decode(errors="replace").splitlines() if line.startswith(f'["{token}"')]
    return marks(assignment, {task: error for _, task, error in map(json.loads, lines)})


def marks(assignment, errors):
    """{task: Mark}, where `errors` says of each task whose checks ran why they failed, "" if they hold."""
    known = [cell.metadata.get("nbgrader", {}) for cell in read_source(assignment).cells]
    graded = [about for about in known if about.get("grade")]
    found = {about.grade_id: (about.points, errors.get(about.grade_id, UNSEEN)) for about in graded}
    return {task: Mark(0 if error else points, points, error) for task, (points, error) in found.items()}


def read_submission(path):
    """The notebook at `path` and the assignment that its name says."""
    if path.stem not in assignments():
        raise ExerciseError(f"no assignment has this name; there are {', '.join(assignments())}")
    try:
        submission = nbformat.read(path, as_version=4)
        nbformat.validate(submission)
    except Exception as error:  # nbformat raises errors of many kinds
        raise ExerciseError(f"not a notebook: {error}") from error
    return path.stem, submission


def report(folder):
    """Grade every notebook below `folder`; give lines that say its points, and why a task has none."""
    for path in sorted(Path(folder).rglob("*.ipynb")):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            continue  # Jupyter's checkpoints
        try:
            found = grade(*read_submission(path))
        except ExerciseError as error:
            yield f"{name}: refused, {error}"
            continue
        got, most, _ = zip(*found.values())
        yield f"{name}: {sum(got)} of {sum(most)}"
        yield from (f"    {task}: 0 of {mark.max_score}, {mark.error}" for task, mark in found.items() if mark.error)


def write_all():
    """Write the student versions to nbs/exercises/_release and say where they are."""
    try:
        written = release()
    except ExerciseError as error:
        sys.exit(f"No student version was written:\n{error}")
    for path, is_fresh in written.items():
        kept = "" if is_fresh else " (kept: it is not the fresh one; delete it to get that)"
        print(f"{path.relative_to(ROOT)}{kept}")


def main():
    """Write the student versions, or grade a folder of submissions."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.exercises", description=main.__doc__)
    what = parser.add_subparsers(dest="what")
    grading = what.add_parser("grade", help="print the points of every notebook in a folder")
    grading.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    if chosen.what is None:
        return write_all()
    if not chosen.folder.is_dir():
        sys.exit(f"{chosen.folder}: no such folder")
    for line in report(chosen.folder):
        print(line, flush=True)


if __name__ == "__main__":
    main()
