"""An editor offers what there is: every public method, by way of the names at the top."""
import jedi
import pytest

import llmrec
from llmrec import Dataset, Recommender
from tests.tools.notebooks import ROOT


def named(name):
    """What is public in a class of the library."""
    return {member for member in dir(getattr(llmrec, name)) if not member.startswith("_")}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """jedi keeps parsed files in one folder a user, and reads them while another process is still writing."""
    monkeypatch.setattr(jedi.settings, "cache_directory", str(tmp_path_factory.getbasetemp() / "jedi"))


CLASSES = [name for name in llmrec.__all__ if isinstance(getattr(llmrec, name), type) and issubclass(getattr(llmrec, name), (Dataset, Recommender))]


@pytest.mark.parametrize("name", CLASSES)
def test_an_editor_offers_every_public_method(name):
    code = f"from llmrec import {name}\n{name}."
    offered = {found.name for found in jedi.Script(code, project=jedi.Project(ROOT)).complete(2, len(name) + 1)}
    assert len(named(name)) > 5 and named(name) <= offered


def test_an_editor_offers_what_is_public_at_the_top():
    offered = {found.name for found in jedi.Script("from llmrec import ", project=jedi.Project(ROOT)).complete(1, 19)}
    assert set(llmrec.__all__) <= offered
