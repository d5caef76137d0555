"""A few hundred damaged files through the loaders, and every key of the configuration with what does not belong there.

`python -m tests.benchmarks.fuzz` tries 2,000 files and counts what became of them."""
import tomllib

import pytest

from llmrec.work.pipeline import DEFAULT, load_config
from tests.benchmarks.fuzz import KINDS, fuzz

KEYS = [f"{section}.{key}" for section, keys in tomllib.loads(DEFAULT.read_text(encoding="utf-8")).items() for key in keys]
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


@pytest.mark.parametrize("key", KEYS)
def test_a_setting_is_taken_or_refused_in_one_line(key):
    for value in HOSTILE:
        try:
            load_config(settings=[f"{key}={value}"])
        except ValueError as error:
            message = str(error)
            assert message.startswith(f"config: {key}") and "\n" not in message and len(message) < 1_500, (value[:50], message[:500])
            assert error.__suppress_context__ or error.__context__ is None, value[:50]
