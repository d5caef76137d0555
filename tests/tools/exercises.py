"""Makes the student versions of the exercises (`make exercises`) and grades answers, both with nbgrader's own API."""
import os
import shutil
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


class ExerciseError(Exception):
    """What nbgrader could not do, in its words."""


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


def grade(notebooks):
    """Autograde `notebooks`, {(assignment, student): notebook}; return {(assignment, student): {grade id: Mark}}."""
    with course() as (api, root):
        for (assignment, student), notebook in notebooks.items():
            path = root / "submitted" / student / assignment / f"{assignment}.ipynb"
            path.parent.mkdir(parents=True)
            nbformat.write(notebook, path)
            succeed(api.autograde(assignment, student))
        return {key: marks(api, root, *key) for key in notebooks}


def marks(api, root, assignment, student):
    """The gradebook's scores of one student, each with the error that the autograded notebook shows."""
    graded = nbformat.read(root / "autograded" / student / assignment / f"{assignment}.ipynb", as_version=4)
    errors = {
        cell.metadata.nbgrader.grade_id: f"{output.ename}: {output.evalue}"
        for cell in graded.cells if cell.metadata.get("nbgrader", {}).get("grade")
        for output in cell.outputs if output.output_type == "error"
    }
    with api.gradebook as gradebook:
        [notebook] = gradebook.find_submission(assignment, student).notebooks
        grades = notebook.grades
        return {cell.name: Mark(cell.auto_score, cell.max_score, errors.get(cell.name, "")) for cell in grades}


def main():
    """Write the student versions to nbs/exercises/_release and say where they are."""
    try:
        written = release()
    except ExerciseError as error:
        sys.exit(f"No student version was written:\n{error}")
    for path, is_fresh in written.items():
        kept = "" if is_fresh else " (kept: it is not the fresh one; delete it to get that)"
        print(f"{path.relative_to(ROOT)}{kept}")


if __name__ == "__main__":
    main()
