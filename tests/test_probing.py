"""The closed form against scikit-learn, features by hand, missing columns, and what the probe must reach."""
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import Ridge

from llmrec.data.dataset import Dataset, make_dataset
from llmrec.language.encoding import TextEncoder
from llmrec.language.geometry import ProjectedEncoder, WordVectorEncoder
from llmrec.evaluation.splitting import item_cold
from llmrec.evaluation.protocol import compare, evaluate
from llmrec.recommenders.base import Popularity, load_recommender
from llmrec.recommenders.content import text_vectors
from llmrec.tastes.probing import RidgeRecommender, item_features, ridge_map, scale_block, year_steps


class Given(TransformerMixin, BaseEstimator):
    """Vectors that are there already, whatever the texts."""

    def __init__(self, vectors):
        self.vectors = vectors

    def fit_transform(self, texts):
        return self.vectors[:len(texts)] if isinstance(self.vectors, np.ndarray) else self.vectors


def dataset(likes, **columns):
    """People, items and likes, as a dense table."""
    users, items = np.nonzero(likes)
    frame = pd.DataFrame({"item_id": range(np.shape(likes)[1]), "title": [f"film {i}" for i in range(np.shape(likes)[1])], **columns})
    return make_dataset(pd.DataFrame({"user_id": users, "item_id": items}), frame)


def random_likes(n=12, m=30, seed=0):
    H = (np.random.default_rng(seed).random((n, m)) < .25).astype(float)
    H[:, -8:] = 0
    H[:, 0] = 1
    return H


# The parts

@settings(deadline=None, max_examples=40)
@given(st.integers(2, 12), st.integers(1, 9), st.sampled_from([.1, 1., 50.]), st.integers(0, 999))
def test_equal_to_scikit_learn_in_both_forms(n, d, reg, seed):
    rng = np.random.default_rng(seed)
    F, warm = rng.standard_normal((n, d)), rng.random(n) < .6
    warm[0] = True
    x = (rng.random(n) < .5) * warm
    peer = Ridge(alpha=reg, fit_intercept=False).fit(F[warm], x[warm])
    assert np.allclose((x @ F) @ ridge_map(F, warm, reg), F @ peer.coef_, atol=1e-8)


def test_year_steps_by_hand():
    steps = year_steps(pd.Series([1990, 1994, None, 2005], dtype="Int64"))
    assert np.allclose(steps, [[1, 0, 0], [.6, .4, 0], [0, 0, 0], [0, .5, .5]])
    assert np.array_equal(year_steps(pd.Series([1990., 1994, np.nan, 2005])), steps)
    assert np.allclose(year_steps(pd.Series([1994, 1996]), width=5), [[.2, .8, 0], [0, .8, .2]])


def test_scale_block_by_hand():
    """The second row knows nothing, the third is not warm; the warm mean is (1, 2), the differences have length 1."""
    B = np.array([[0., 2], [0, 0], [1, 3], [2, 2]])
    assert np.allclose(scale_block(B, np.array([1, 1, 0, 1], bool), .5), [[-.5, 0], [0, 0], [0, .5], [.5, 0]])
    assert not scale_block(np.ones((3, 2)), np.ones(3, bool), 1).any(), "a block that is the same everywhere"
    assert not scale_block(np.zeros((3, 2)), np.ones(3, bool), 1).any(), "a block of which nothing is known"


@pytest.mark.parametrize("columns, width", [({}, 4), ({"genres": ["A|B", "B", ""]}, 6), ({"year": [1990, None, 2001]}, 7), ({"year": [None] * 3}, 4)])
def test_blocks_that_are_not_there(columns, width):
    items = dataset(np.ones((1, 3)), **columns).items
    F = item_features(items, np.random.default_rng(0).standard_normal((3, 4)), np.ones(3, bool), .4, .5)
    assert F.shape == (3, width) and np.isfinite(F).all()
    assert item_features(items, np.eye(3), np.ones(3, bool), 0, 0).shape == (3, 3)


# The recommender

@pytest.mark.parametrize("n_features", [3, 40])
def test_all_people_at_once_are_one_regression_each(n_features):
    H = random_likes()
    data = dataset(H)
    model = RidgeRecommender(Given(np.random.default_rng(1).standard_normal((H.shape[1], n_features))), reg=2., shared=0).fit(data)
    warm = H.any(axis=0)
    S = model.score_items(data.users)
    for x, scores in zip(H, S):
        peer = Ridge(alpha=2., fit_intercept=False).fit(model.F_[warm], x[warm])
        assert np.allclose(scores, peer.predict(model.F_), atol=1e-4)
    assert S.dtype == "float32"


def test_the_average_person_is_added():
    H = random_likes()
    data, V = dataset(H), np.random.default_rng(1).standard_normal((H.shape[1], 5))
    own, shared = (RidgeRecommender(Given(V), shared=s).fit(data) for s in (0, 2))
    expected = own.score_history(csr_matrix(H + 2 * H.mean(axis=0)))
    assert np.allclose(shared.score_items(data.users), expected, atol=1e-5)


def test_films_that_nobody_liked_change_nothing():
    """Cold items are scored and teach nothing: more of them leave the scores of the others as they are."""
    H, V = random_likes(), np.random.default_rng(1).standard_normal((30, 5))
    years = {"year": np.arange(1980, 2010)}
    fewer = RidgeRecommender(Given(V)).fit(dataset(H[:, :26], year=years["year"][:26])).score_history(csr_matrix(H[:, :26]))
    more = RidgeRecommender(Given(V)).fit(dataset(H, **years)).score_history(csr_matrix(H))
    assert np.allclose(fewer, more[:, :26], atol=1e-5) and np.isfinite(more).all()


def test_a_history_without_likes_has_no_scores():
    data = dataset(random_likes())
    model = RidgeRecommender(Given(np.random.default_rng(1).standard_normal((30, 5)))).fit(data)
    S = model.score_history(csr_matrix(([1.], ([1], [29])), shape=(2, 30)))
    assert np.isneginf(S[0]).all() and np.isfinite(S[1]).all(), "a liked film that was cold in training speaks, too"


def test_an_item_of_which_nothing_is_known_cannot_be_scored():
    """-inf for the item and for whoever likes nothing else; a row of NaN says the same as a blank text, and a known year is something."""
    H, V = random_likes(), np.random.default_rng(1).standard_normal((30, 5)).astype("float32")
    titles, years = [f"film {i}" for i in range(30)], [1980 + i for i in range(30)]
    titles[3], titles[4], years[3], V[5] = "", "", None, np.nan
    data = dataset(H, title=titles, year=years)
    model = RidgeRecommender(Given(V), template="{title}").fit(data)
    S = model.score_items(data.users)
    assert np.flatnonzero(np.isneginf(S).all(axis=0)).tolist() == [3] and np.isfinite(np.delete(S, 3, axis=1)).all()
    only = csr_matrix(([1., 1], ([0, 1], [3, 4])), shape=(2, 30))
    assert np.isneginf(model.score_history(only)[0]).all() and np.isfinite(model.score_history(only)[1, 4])
    titled = RidgeRecommender(Given(V), template="{title}", year=0).fit(data)
    assert np.flatnonzero(np.isneginf(titled.score_items(data.users)[0])).tolist() == [3, 4, 5]
    assert not titled.recommend(data.users, k=30, exclude_seen=False).item_id.isin([3, 4, 5]).any()


def test_a_language_decides():
    """Two tastes and a new film of each."""
    H = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]])
    V = np.array([[1., 0], [1, .1], [0, 1], [.1, 1], [1, .05], [.05, 1]])
    model = RidgeRecommender(Given(V), reg=.1).fit(dataset(H))
    assert model.recommend([0, 1], k=1).item_id.tolist() == [4, 5]
    assert model.similar_items([0, 2], k=1).similar_item_id.tolist() == [4, 5]


def test_scale_of_the_vectors_does_not_matter():
    H, V = random_likes(), np.random.default_rng(1).standard_normal((30, 5))
    a, b = (RidgeRecommender(Given(s * V + 3 * (s > 1))).fit(dataset(H)).score_history(csr_matrix(H)) for s in (1, 100))
    assert np.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("name", ["genres", "year", "shared", "reg"])
@pytest.mark.parametrize("value", [-1, "a", None, True, np.nan, np.inf, [1]])
def test_wrong_weights(name, value):
    with pytest.raises(ValueError, match=re.escape(f"{name}: got {value!r}; give a number")):
        RidgeRecommender(Given(np.eye(30)), **{name: value}).fit(dataset(random_likes()))


@pytest.mark.parametrize("name, value", [("template", 5), ("encoder", "minilm"), ("encoder", TextEncoder)])
def test_settings_of_another_type_are_refused_by_name(name, value):
    with pytest.raises(TypeError, match=f"^{name}: got"):
        RidgeRecommender(**{name: value}).fit(dataset(random_likes()))


@pytest.mark.parametrize("gives", [np.eye(29), np.ones(30), np.full((30, 2), np.inf), "x", csr_matrix(np.eye(30))], ids=["few", "flat", "infinite", "text", "sparse"])
def test_a_failed_fit_leaves_the_model_as_it_was(gives):
    data = dataset(random_likes())
    model = RidgeRecommender(Given(gives))
    with pytest.raises(ValueError, match="^encoder: gave"):
        model.fit(data)
    assert vars(model) == vars(RidgeRecommender(model.encoder))
    before = (model := RidgeRecommender(Given(np.eye(30)))).fit(data).score_items(data.users)
    with pytest.raises(ValueError, match="^encoder: gave"):
        model.set_params(encoder=Given(gives)).fit(dataset(random_likes(seed=1)))
    assert np.array_equal(model.score_items(data.users), before)


def test_wrong_calls():
    for reg in (0, -1, np.nan):
        with pytest.raises(ValueError, match="reg: got"):
            RidgeRecommender(Given(np.eye(30)), reg=reg).fit(dataset(random_likes()))
    data = dataset(random_likes())
    with pytest.raises(ValueError, match="train: holds no like"):
        RidgeRecommender(Given(np.eye(30))).fit(data.take(np.zeros(len(data.interactions), bool)))
    with pytest.raises(ValueError, match="template"):
        RidgeRecommender(Given(np.eye(30)), template="{plot}").fit(data)


def test_candidates_are_scored_as_among_all(monkeypatch):
    """And by their own columns alone; -inf for nothing, for an item of which nothing is known, and for a history without likes."""
    H, V = random_likes(), np.random.default_rng(1).standard_normal((30, 5)).astype("float32")
    H[2], V[5] = 0, np.nan
    data = dataset(H)
    data = Dataset(data.interactions, data.items, pd.RangeIndex(len(H), name="user_id"))
    model = RidgeRecommender(Given(V), template="{title}").fit(data)
    codes = np.random.default_rng(0).integers(-1, 30, (len(H), 7))
    codes[0, :3] = 5, -1, 29
    wanted = np.where(codes < 0, -np.inf, np.take_along_axis(model.score_items(data.users), codes, axis=1))
    monkeypatch.setattr(RidgeRecommender, "score_history", lambda *args: pytest.fail("all items were scored"))
    S = model.score_candidates(data.users, codes)
    assert S.dtype == np.float32 and np.isneginf(S[2]).all() and np.isneginf(S[0, :2]).all()
    assert np.array_equal(np.isneginf(S), np.isneginf(wanted)) and np.allclose(S[S > -np.inf], wanted[S > -np.inf], atol=1e-5)
    with pytest.raises(ValueError, match="codes: got"):
        model.score_candidates(data.users, codes[:3])


# With a language model

@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: ProjectedEncoder(e, "whiten", 4), WordVectorEncoder])
def test_save_and_load(wrap, tmp_path):
    data = dataset(random_likes(), genres=["Drama", "Comedy"] * 15)
    model = RidgeRecommender(wrap(TextEncoder(device="cpu", dtype="float32", cache_dir=str(tmp_path)))).fit(data)
    model.save(tmp_path / "ridge.npz")
    back = load_recommender(tmp_path / "ridge.npz")
    assert np.array_equal(back.score_items(data.users), model.score_items(data.users))
    assert np.array_equal(clone(model).fit(data).score_items(data.users), model.score_items(data.users))
    assert type(back.encoder) is type(model.encoder)


def test_new_films_are_ranked_by_what_they_are(movielens):
    """Popularity knows nothing of new films. (That MiniLM's vectors beat TF-IDF is checked by the lesson.)"""
    split, words = item_cold(movielens), text_vectors(movielens.items)[0]
    encoder = Given(TruncatedSVD(30, random_state=0).fit_transform(words))
    reports = {"ridge": evaluate(RidgeRecommender(encoder), split), "popularity": evaluate(Popularity(), split)}
    assert compare(reports).low.item() > 0 and reports["ridge"].meta["short_lists"] == 0
