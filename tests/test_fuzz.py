"""A few hundred damaged files through the loaders, and every key of the configuration with what does not belong there.

`python -m tests.benchmarks.fuzz` tries 2,000 files and counts what became of them."""
from dataclasses import fields

import pytest

from llmrec.work.configuration import find_recommenders, load_config, recommender_section, section_types
from tests.benchmarks.fuzz import KINDS, fuzz

KEYS = [("Hybrid", f"{name}.{f.name}") for name, section in section_types().items() for f in fields(section)]
KEYS += [(name, f"recommender.{f.name}") for name in find_recommenders() if name != "Hybrid" for f in fields(recommender_section(name)) if f.name != "name"]
HOSTILE = ["", "nan", "-inf", "1e400", "1e300", "-1e300", "1e-300", "-0.0", "-1", "1" + "0" * 40, "1" * 5000, "0x" + "f" * 5000, "true", "'1'", "2026-01-01", "[]", "[[]]", "[nan]",
           "[1, 1]", "{}", "{a = {}}", "{'' = ''}", "[" * 5000 + "]" * 5000, "{a=" * 5000 + "1" + "}" * 5000, '"\\u0000"', "\0", "\udcff", "'[/b]'", "\x1b[2J", "x" * 1_000, "x" * 100_000]


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_or_accounted_for(kind, tmp_path):
    outcomes = set()
    for number in range(KINDS.index(kind), 30 * len(KINDS), len(KINDS)):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcomes.add(fuzz(number, folder)[2])
    assert {"refused", "same table"} <= outcomes


@pytest.mark.parametrize("name, key", KEYS)
def test_a_setting_is_taken_or_refused_in_one_line(name, key):
    for value in HOSTILE:
        try:
            load_config(settings=[f"recommender.name={name}", f"{key}={value}"])
        except ValueError as error:
            message = str(error)
            assert message.removeprefix("config: ").removeprefix("unknown key '").startswith(key) and "\n" not in message and len(message) < 1_500, (value[:50], message[:500])
            assert error.__suppress_context__ or error.__context__ is None, value[:50]
