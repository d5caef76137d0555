"""The exercises, graded by nbgrader itself: blank fails, plausible wrong answers fail, right ones pass."""
import ast
import io
import re
from copy import deepcopy

import nbformat
import pytest
from nbgrader.validator import Validator

from tests.tools import exercises

# Per task: two answers that a student might well hand in, then one that passes every check the student can see, then
# a right one that is not ours. All stand alone, so that no task fails through another.
ANSWERS = {"similarity": {
    "cosine": [
        "def cosine(u, v): return u @ v / (np.linalg.norm(u) * np.linalg.norm(v))",  # 0/0
        "def cosine(u, v): return float(u @ v) / len(u)",  # divides by n, not by the lengths
        "def cosine(u, v): return u @ v / (np.linalg.norm(u) * np.linalg.norm(v) + 1e-8)",  # short vectors
        "def cosine(u, v): return np.nan_to_num(u @ v / (np.linalg.norm(u) * np.linalg.norm(v)))",
    ],
    "euclidean": [
        "def euclidean_similarity(u, v): return np.linalg.norm(u - v)",  # a distance, as printed
        "def euclidean_similarity(u, v): return 1 - np.linalg.norm(u - v)",  # negative
        "def euclidean_similarity(u, v): return 1 / (1 + np.sum((u - v) ** 2))",  # no root
        "def euclidean_similarity(u, v): return 1 / (1 + np.sum((u - v) ** 2) ** 0.5)",
    ],
    "pearson": [
        "def pearson(u, v): return u @ v / (np.linalg.norm(u) * np.linalg.norm(v))",  # not centred
        "def pearson(u, v): return np.corrcoef(u, v)[0, 1]",  # nan for a constant vector
        """\
def pearson(u, v):  # rounding has a direction
    u, v = u - u.mean(), v - v.mean()
    lengths = np.linalg.norm(u) * np.linalg.norm(v)
    return u @ v / lengths if lengths > 0 else 0""",
        "def pearson(u, v): return 0 if len(set(u)) == 1 or len(set(v)) == 1 else np.corrcoef(u, v)[0, 1]",
    ],
    "matrix": [
        """\
def cosine_matrix(U, V):  # scales columns, not rows
    return U / np.linalg.norm(U, axis=0) @ (V / np.linalg.norm(V, axis=0)).T""",
        """\
def cosine_matrix(U, V):  # right, but a loop
    length = lambda x: np.linalg.norm(x) or 1
    return np.array([[u @ v / (length(u) * length(v)) for v in V] for u in U])""",
        """\
def cosine_matrix(U, V):  # changes its arguments
    for_u, for_v = np.linalg.norm(U, axis=1, keepdims=True), np.linalg.norm(V, axis=1, keepdims=True)
    U /= np.where(for_u == 0, 1, for_u)
    V /= np.where(for_v == 0, 1, for_v)
    return U @ V.T""",
        """\
def cosine_matrix(U, V):
    return np.nan_to_num(U @ V.T / np.outer(np.linalg.norm(U, axis=1), np.linalg.norm(V, axis=1)))""",
    ],
    "top_k": [
        "def top_k(scores, k): return np.argsort(scores, kind='stable')[:k]",  # worst first
        "def top_k(scores, k): return np.sort(scores)[::-1][:k]",  # scores, not codes
        "def top_k(scores, k): return np.argsort(scores, kind='stable')[::-1][:k]",  # ties to the higher code
        "def top_k(scores, k): return sorted(range(len(scores)), key=lambda j: (-scores[j], j))[:k]",
    ],
    "nearest": [
        """\
def nearest_films(code, V, k=5):  # the film is its own neighbour
    unit = V / np.maximum(np.linalg.norm(V, axis=1, keepdims=True), 1e-12)
    return np.argsort(-(unit @ unit[code]), kind="stable")[:k]""",
        """\
def nearest_films(code, V, k=5):  # the largest product
    scores = V @ V[code]
    scores[code] = -np.inf
    return np.argsort(-scores, kind="stable")[:k]""",
        """\
def nearest_films(code, V, k=5):  # drops the first, which need not be the film itself
    unit = V / np.maximum(np.linalg.norm(V, axis=1, keepdims=True), 1e-12)
    return np.argsort(-(unit @ unit[code]), kind="stable")[1:k + 1]""",
        """\
def nearest_films(code, V, k=5):
    scores = np.nan_to_num(V @ V[code] / (np.linalg.norm(V, axis=1) * np.linalg.norm(V[code])))
    return np.array([j for j in np.lexsort((np.arange(len(V)), -scores)) if j != code][:k])""",
    ],
}}
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")  # nbgrader's own

STUDENTS = ["blank", "solution", "wrong", "wrong again", "wrong where unseen", "right another way"]


def tasks(notebook, kind):
    """The cells of one kind, "solution" or "grade", as {grade id: cell}."""
    cells = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get(kind)]
    return {cell.metadata.nbgrader.grade_id: cell for cell in cells}


def fill_in(released, answers):
    """The student version with these answers, {task: code}, in its solution cells."""
    filled = deepcopy(released)
    for task, cell in tasks(filled, "solution").items():
        cell.source = answers[task]
    return filled


def validate(path):
    """What `nbgrader validate` says of the notebook at `path`."""
    validator = Validator()
    validator.stream = io.StringIO()
    validator.validate_and_print(str(path))
    return validator.stream.getvalue()


@pytest.fixture(scope="module", params=exercises.assignments())
def assignment(request):
    return request.param


@pytest.fixture(scope="module")
def source(assignment):
    return nbformat.read(exercises.SOURCE / assignment / f"{assignment}.ipynb", as_version=4)


@pytest.fixture(scope="module")
def released(assignment, tmp_path_factory):
    out = tmp_path_factory.mktemp("release")
    exercises.release(out)
    return nbformat.read(out / assignment / f"{assignment}.ipynb", as_version=4)


@pytest.fixture(scope="module")
def submissions(assignment, source, released):
    """One filled-in notebook per student."""
    solution = {task: cell.source for task, cell in tasks(source, "solution").items()}
    assert solution.keys() == ANSWERS[assignment].keys(), "ANSWERS has wrong and right answers for each task"
    others = [dict(zip(ANSWERS[assignment], column)) for column in zip(*ANSWERS[assignment].values(), strict=True)]
    filled = [fill_in(released, answers) for answers in [solution, *others]]
    return dict(zip(STUDENTS, [released, *filled], strict=True))


@pytest.fixture(scope="module")
def marks(assignment, submissions):
    return exercises.grade(assignment, submissions)


def test_student_version_is_a_valid_notebook_without_answers(source, released):
    nbformat.validate(released)
    text = nbformat.writes(released)
    for words in ["BEGIN", "END SOLUTION", "END HIDDEN"]:
        assert words in nbformat.writes(source) and words not in text
    assert not any(cell.get("outputs") for cell in released.cells)
    for task, cell in tasks(released, "solution").items():
        assert cell.source.endswith("# YOUR CODE HERE\n    raise NotImplementedError()")
        assert ast.get_docstring(ast.parse(cell.source).body[0]), f"{task}: says what the function does"
    for task, cell in tasks(released, "grade").items():
        hidden = tasks(source, "grade")[task].source.split("### BEGIN HIDDEN TESTS\n")[1].split("### END")[0]
        lines = [line for line in hidden.splitlines() if "assert" in line]
        assert lines and not any(line in text for line in lines), f"{task}: has hidden tests, and they are hidden"
        assert "assert" in cell.source, f"{task}: has checks that the student can see"


def test_points_are_the_ones_announced(source):
    points = {cell.metadata.nbgrader.grade_id.removeprefix("test_"): cell.metadata.nbgrader.points
              for cell in tasks(source, "grade").values()}
    assert ast.literal_eval(source.cells[-1].outputs[0].data["text/plain"]) == points
    prose = "\n".join(cell.source for cell in source.cells if cell.cell_type == "markdown")
    assert [int(number) for number in re.findall(r"^## .+ \((\d+) points?\)$", prose, re.M)] == list(points.values())


def test_blank_fails_every_task(marks):
    for task, mark in marks["blank"].items():
        assert mark.score == 0 < mark.max_score and mark.error.startswith("NotImplementedError"), f"{task}: {mark}"


@pytest.mark.parametrize("student", [student for student in STUDENTS if student.startswith("wrong")])
def test_wrong_answers_fail(marks, student):
    for task, mark in marks[student].items():
        assert mark.score == 0 and mark.error.startswith("AssertionError"), f"{task}: {mark}"


@pytest.mark.parametrize("student", ["solution", "right another way"])
def test_right_answers_get_full_points(marks, student):
    for task, mark in marks[student].items():
        assert mark.score == mark.max_score > 0 and not mark.error, f"{task}: {mark}"


@pytest.mark.parametrize("student", ["solution", "wrong where unseen"])
def test_only_hidden_tests_tell_these_apart(submissions, student, tmp_path):
    nbformat.write(submissions[student], tmp_path / "filled.ipynb")
    assert validate(tmp_path / "filled.ipynb") == "Success! Your notebook passes all the tests.\n"


def test_release_writes_what_is_missing_and_keeps_work(assignment, tmp_path):
    path = tmp_path / assignment / f"{assignment}.ipynb"
    path.parent.mkdir()
    path.write_text("an evening's work")
    written = exercises.release(tmp_path)
    assert not written.pop(path) and path.read_text() == "an evening's work"
    assert all(written.values()) and {found for found in tmp_path.rglob("*") if found.is_file()} == {path, *written}


def test_a_broken_source_writes_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "source" / "broken"
    folder.mkdir(parents=True)
    cell = nbformat.v4.new_code_cell("### BEGIN SOLUTION", metadata={"nbgrader": {
        "grade": False, "grade_id": "open", "locked": False, "schema_version": 3, "solution": True, "task": False}})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "broken.ipynb")
    monkeypatch.setattr(exercises, "SOURCE", tmp_path / "source")
    with pytest.raises(exercises.ExerciseError, match="no end solution statement"):
        exercises.release(tmp_path / "out")
    assert not (tmp_path / "out").exists()
