"""A few hundred damaged files through the loaders; `python -m tests.benchmarks.fuzz` tries 2,000 and counts what became of them."""
import pytest

from tests.benchmarks.fuzz import KINDS, fuzz


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_or_accounted_for(kind, tmp_path):
    outcomes = set()
    for number in range(KINDS.index(kind), 30 * len(KINDS), len(KINDS)):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcomes.add(fuzz(number, folder)[2])
    assert {"refused", "same table"} <= outcomes
