"""What every test runs under, and the data they share."""
import os

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "MPLBACKEND": "Agg"}

import pytest
from hypothesis import settings

settings.register_profile("same every time", derandomize=True, deadline=None)
settings.load_profile("same every time")


def pytest_collection_modifyitems(items):
    """Skip what needs a GPU where there is none; keep the tests of a file in one process, but let notebooks go to whichever is free."""
    for item in items:
        if not item.name.startswith("test_outputs_are_the_committed_ones"):
            item.add_marker(pytest.mark.xdist_group(item.path.name))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch finds none"))


@pytest.fixture(scope="session")
def movielens():
    """The embedded MovieLens as a `Dataset`, read once."""
    from llmrec.data.movielens import load_movielens

    return load_movielens()
