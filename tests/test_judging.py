"""The table and the picture of several ways of judging."""
import numpy as np
import pandas as pd
import pytest

from llmrec.evaluation.protocol import Report
from llmrec.evaluation.judging import judgements, plot_judgements


def report(mean):
    return Report(None, pd.DataFrame({"mean": [mean, 1.], "low": [mean - .1, 1.], "high": [mean + .2, 1.], "n": [7, 7]}, index=["ndcg@10", "mrr@10"]), {})


REPORTS = {"one way": {"a": report(.3), "b": report(.5)}, "another": {"a": report(.6)}}


def test_a_row_for_each_way_and_model():
    table = judgements(REPORTS)
    assert table[["way", "model"]].to_numpy().tolist() == [["one way", "a"], ["one way", "b"], ["another", "a"]]
    assert np.allclose(table[["mean", "low", "high", "n"]], [[.3, .2, .5, 7], [.5, .4, .7, 7], [.6, .5, .8, 7]])
    assert (judgements(REPORTS, "mrr@10")["mean"] == 1).all()
    with pytest.raises(ValueError, match="^metric: got 'auc', which 'one way' of 'a' lacks; it has ndcg@10, mrr@10"):
        judgements(REPORTS, "auc")


def test_the_picture_shows_every_figure_and_marks_the_best():
    fig = plot_judgements(judgements(REPORTS))
    first, second = fig.axes
    assert first.get_title() == "one way (7 users)" and second.get_title() == "another (7 users)"
    assert first.containers[0].lines[0].get_xdata().tolist() == [.3, .5] and first.lines[-1].get_xdata() == [.5]
