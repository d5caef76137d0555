"""Content-based filtering against scikit-learn and by hand, for old films, new films and films without a word."""
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.sparse import csr_matrix, issparse
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from llmrec.data.dataset import Dataset
from llmrec.evaluation.splitting import item_cold
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.base import load_recommender
from llmrec.recommenders.content import ContentRecommender, text_vectors


def dataset(X, titles):
    """Likes and titles as a Dataset that keeps empty rows and columns."""
    user, item = np.nonzero(X)
    items = pd.DataFrame({"item_id": range(len(titles)), "title": titles})
    return Dataset(pd.DataFrame({"user_id": user, "item_id": item}), items, pd.RangeIndex(len(X), name="user_id"))


def test_three_films_by_hand():
    """Words a and b stand in two of three films each: idf 1 + ln(4/3) for both, 1 + ln 2 for c."""
    rare, common = 1 + np.log(2), 1 + np.log(4 / 3)
    model = ContentRecommender().fit(dataset(np.eye(3), ["a b", "a", "b c"]))
    near, far = 1 / np.sqrt(2), common / np.hypot(common, rare) / np.sqrt(2)
    expected = [[1, near, far], [near, 1, -np.inf], [far, -np.inf, 1]]
    np.testing.assert_allclose(model.item_similarity(np.arange(3)), expected, atol=1e-6)
    np.testing.assert_allclose(model.score_items([1]), [[near, 1, 0]], atol=1e-6)
    assert model.similar_items(1, k=2).similar_item_id.tolist() == [0] and model.words_.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("stop_words", [None, "english"])
def test_the_scores_are_scikit_learns(movielens, stop_words):
    films = movielens.items
    texts = [" ".join([film.title, film.genres.replace("|", " "), "" if pd.isna(film.year) else str(film.year)]) for film in films.itertuples()]
    ascii_only = films.title.str.fullmatch(r"[A-Za-z ,()]+").to_numpy()
    few = Dataset(movielens.interactions[:0], films[ascii_only], movielens.users)
    peer = TfidfVectorizer(stop_words=stop_words, token_pattern=r"\w+").fit_transform([t for t, kept in zip(texts, ascii_only) if kept])
    model = ContentRecommender(stop_words=stop_words).fit(few)
    np.testing.assert_allclose(abs(model.F_ - peer).max(), 0, atol=1e-6)
    H = csr_matrix(np.random.default_rng(0).random((5, few.n_items)) < .01, dtype="float32")
    np.testing.assert_allclose(model.score_history(H), cosine_similarity(np.asarray(H @ peer.toarray()), peer), atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text("ab cथ", max_size=6), min_size=1, max_size=6), st.data())
def test_any_titles_and_any_history(titles, draw):
    H = np.array(draw.draw(st.lists(st.lists(st.integers(0, 1), min_size=len(titles), max_size=len(titles)), min_size=1, max_size=4)))
    data = dataset(H, titles)
    if not any(title.strip() for title in titles):
        with pytest.raises(ValueError, match="has a word"):
            ContentRecommender().fit(data)
        return
    model = ContentRecommender().fit(data)
    S, F = model.score_history(data.likes()), model.F_.toarray()
    scored = (H @ (F.sum(1) > 0)) > 0
    assert S.dtype == "float32" and np.isneginf(S[~scored]).all()
    assert np.allclose(S[scored], cosine_similarity(H @ F, F)[scored], atol=1e-5)
    doubled = data.likes() * 2
    assert np.allclose(model.score_history(doubled)[scored], S[scored], atol=1e-6)


def test_a_new_film_is_found():
    """The third film has no like; it shares the genre of the first."""
    data = dataset([[1, 0, 0], [0, 1, 0]], ["Alien Horror", "Amelie Romance", "Hereditary Horror"])
    assert ContentRecommender().fit(data).recommend(0, k=1).item_id.tolist() == [2]


def test_clone_refit_save_and_load(movielens, tmp_path):
    model = ContentRecommender(stop_words="english").fit(movielens)
    scores = model.score_items([1, 600])
    assert np.array_equal(clone(model).fit(movielens).score_items([1, 600]), scores)
    model.save(tmp_path / "content.npz")
    back = load_recommender(tmp_path / "content.npz")
    assert back.get_params() == model.get_params() and np.array_equal(back.score_items([1, 600]), scores)
    assert back.words_.tolist() == model.words_.tolist()


def test_what_is_learnt_is_sparse(movielens):
    model = ContentRecommender().fit(movielens)
    assert issparse(model.F_) and model.F_.nnz < 10 * movielens.n_items and model.F_.dtype == "float32"
    assert not [name for name, value in vars(model).items() if isinstance(value, np.ndarray) and value.ndim > 1]


def test_wrong_calls(movielens):
    with pytest.raises(ValueError, match="stop_words: got 'german'; give None or 'english'"):
        ContentRecommender(stop_words="german").fit(movielens)
    with pytest.raises(ValueError, match="template"):
        ContentRecommender(template="{plot}").fit(movielens)
    with pytest.raises(ValueError, match="none of the 2 items has a word"):
        text_vectors(pd.DataFrame({"title": ["the", ""]}), stop_words="english")


def test_the_known_figure(movielens):
    """The reference reaches .1151 on films that nobody has rated."""
    report = evaluate(ContentRecommender(), item_cold(movielens))
    assert report.summary.loc["ndcg@10", "mean"] >= .1151 and report.meta["short_lists"] == 0
