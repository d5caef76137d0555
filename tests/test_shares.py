"""Shares by hand and against shap, that add up; and what features and words are worth."""
import numpy as np
import pytest
import shap

from llmrec.recommenders.base import Random
from llmrec.recommenders.linear import EASE, ease_weights
from llmrec.recommenders.neighbours import ItemKNN, UserKNN
from llmrec.tastes.profiles import ProfileRecommender
from llmrec.tastes.probing import RidgeRecommender
from llmrec.tastes.hybrids import Hybrid
from llmrec.lists.shares import (feature_names, feature_values, feature_weights, hybrid_weights, like_values,
    probe_weights, text_score, word_game)
from llmrec.lists.explanation import like_game, removal_values
from tests.test_explanation import TALL, WIDE, Letters, unseen

LINEAR = [EASE(reg=5.), ItemKNN(n_neighbours=5), RidgeRecommender(Letters()), Hybrid(Letters(), item_reg=3., n_neighbours=5)]
EACH = pytest.mark.parametrize("model", LINEAR, ids=lambda model: type(model).__name__)
EITHER = pytest.mark.parametrize("data", [WIDE, TALL], ids=["wide", "tall"])


@EACH
@EITHER
def test_base_and_shares_add_up_to_the_score(model, data):
    model.fit(data)
    items = unseen(model)
    base, values = like_values(model, model.X_, items)
    added = base + np.array([v.sum(axis=0) for v in values])
    scores = np.take_along_axis(model.score_history(model.X_), items, axis=1)
    some = model.X_.getnnz(axis=1) > 0  # a history without likes has no score
    assert some.sum() > 10 and np.allclose(added[some], scores[some], rtol=1e-4, atol=1e-5)
    assert [v.shape for v in values] == [(n, 3) for n in model.X_.getnnz(axis=1)]


@EACH
def test_shares_are_what_goes_with_the_like(model):
    model.fit(WIDE)
    h, items = model.X_[[2]], unseen(model, liked=True)[[2]]  # without likes, the hybrid's volume hangs on the whole history
    values = like_values(model, h, items)[1][0]
    game = like_game(model, h, int(items[0, 0]))
    assert np.allclose(values[:, 0], removal_values(game, h.nnz), rtol=1e-3, atol=1e-5)


@EITHER
def test_the_hybrid_is_read_as_it_answers(data):
    model = Hybrid(Letters(), item_reg=3., n_neighbours=5).fit(data)
    films = np.flatnonzero(model.liked_)[:10]
    for asked, read in zip(probe_weights(model, films, films), hybrid_weights(model, films, films)):
        assert np.allclose(asked, read, atol=3e-6)


@EITHER
def test_what_comes_through_people_is_the_score_without_the_prior(data):
    model, without = (Hybrid(Letters(), item_reg=3., n_neighbours=5, prior=prior).fit(data) for prior in (.8, 0))
    items = unseen(model, liked=True)[:, 0]
    some = model.X_.getnnz(axis=1) > 0
    people, expected = feature_values(model, model.X_, items).people, without.score_history(model.X_)[np.arange(len(items)), items]
    assert some.sum() > 10 and np.allclose(people[some], expected[some], atol=1e-5)


def test_shares_equal_linear_shap_with_the_same_background():
    model = EASE(reg=5.).fit(WIDE)
    B, h = ease_weights(model.X_, 5.), model.X_[[1]]
    items = unseen(model)[[1]]
    for column, item in enumerate(items[0]):
        expected = shap.LinearExplainer((B[:, item], 0), np.zeros((1, WIDE.n_items)))(h.toarray()).values[0]
        assert np.allclose(like_values(model, h, items)[1][0][:, column], expected[h.indices], atol=1e-6)


def test_models_that_do_not_add_up_are_refused():
    for model in (UserKNN(n_neighbours=3), ProfileRecommender(Letters())):
        model.fit(WIDE)
        with pytest.raises(ValueError, match="do not add up"):
            like_values(model, model.X_, unseen(model))
    with pytest.raises(TypeError, match="Random cannot score a history"):
        like_values(Random().fit(WIDE), WIDE.likes(), np.zeros((12, 1), int))


@EITHER
@pytest.mark.parametrize("model", LINEAR[2:], ids=lambda model: type(model).__name__)
def test_features_add_up_to_score_less_base(model, data):
    model.fit(data)
    items = unseen(model)
    base, _ = like_values(model, model.X_, items)
    values = feature_values(model, model.X_, items[:, 0])
    scores = np.take_along_axis(model.score_history(model.X_), items, axis=1)[:, 0]
    some = model.X_.getnnz(axis=1) > 0
    assert np.allclose(values.sum(axis=1)[some], (scores - base[:, 0])[some], rtol=1e-4, atol=1e-5)
    assert values.columns.tolist() == ["people", "text", "Action", "Comedy", "Drama", "year"]


def test_features_need_a_linear_model_and_a_film_outside_the_history():
    model = Hybrid(Letters(), item_reg=3.).fit(WIDE)
    with pytest.raises(ValueError, match="in its history"):
        feature_values(model, model.X_[[0]], model.X_[[0]].indices[:1])
    with pytest.raises(TypeError, match="EASE does not score by features"):
        feature_weights(EASE().fit(WIDE), WIDE.likes()[[0]], np.array([0]))
    assert (feature_names(Hybrid(Letters(), genres=0, year=0).fit(WIDE)) == "text").all()


@pytest.mark.parametrize("model", [LINEAR[2], ProfileRecommender(Letters())], ids=lambda model: type(model).__name__)
def test_text_score_of_the_own_text_is_the_score_and_of_another_that_of_the_changed_vector(model):
    from llmrec.data.text import item_text

    model.fit(WIDE)
    item = int(unseen(model)[0, 0])
    read, texts = text_score(model, 0, item), item_text(WIDE.items, model.template)
    assert np.allclose(read([texts[item]]), model.score_history(model.X_[[0]])[0, item], atol=1e-5)
    words, game = word_game(read, texts[item])
    assert words == texts[item].split() and np.allclose(game(np.ones((1, len(words)), bool)), read([texts[item]]))


def test_the_words_of_an_item_are_no_sum_in_the_hybrid():
    with pytest.raises(TypeError, match="give a RidgeRecommender or ProfileRecommender"):
        text_score(LINEAR[3].fit(WIDE), 0, 1)


def test_a_text_without_words_is_refused():
    with pytest.raises(ValueError, match="no words"):
        word_game(len, "  ")


def test_features_do_not_depend_on_the_block(monkeypatch):
    model = Hybrid(Letters(), item_reg=3.).fit(WIDE)
    items = unseen(model)[:, 0]
    whole = feature_weights(model, model.X_, items)
    monkeypatch.setattr("llmrec.lists.shares.user_blocks", lambda n, _: [slice(start, start + 5) for start in range(0, n, 5)])
    for one, other in zip(whole, feature_weights(model, model.X_, items)):
        assert np.allclose(one, other)


def test_what_does_not_fit_the_memory_is_refused(monkeypatch):
    model = EASE(reg=5.).fit(WIDE)
    monkeypatch.setattr("llmrec.data.checks.memory_size", lambda: 1000)
    with pytest.raises(ValueError, match="n_items = .*: this needs about .*explain fewer users or items at a time"):
        like_values(model, model.X_, unseen(model))
