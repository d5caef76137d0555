"""Features keep to the rows of their items, and say the same as the library or the formula behind them."""
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from llmrec.data.movielens import load_tags
from llmrec.data.text import item_text, text_words
from llmrec.data.features import genre_tags, keywords, sentiment, tfidf


def test_every_item_keeps_its_row(movielens):
    films = movielens.items
    before = films.copy()
    table, names = genre_tags(films)
    assert table.shape == (9066, 19) and table.dtype == "float32" and names == sorted(names)
    assert [{names[j] for j in np.flatnonzero(row)} for row in table] == [set(g.split("|")) - {""} for g in films.genres]
    pd.testing.assert_frame_equal(films, before)


def test_tags_of_untidy_genres():
    table, names = genre_tags(pd.DataFrame({"genres": ["Drama | Comedy", "", None, "Comedy||Comedy"]}, index=[5, 5, 5, 5]))
    assert names == ["Comedy", "Drama"] and table.tolist() == [[1, 1], [0, 0], [0, 0], [1, 0]]
    assert genre_tags(pd.DataFrame({"genres": [""]}))[0].shape == (1, 0)


def test_tfidf_is_the_formula_and_scikit_learns(movielens):
    texts = item_text(movielens.items)[:500] + ["", "the"]
    weights, words = tfidf(texts)
    cut = [text_words(text) for text in texts]
    df = np.array([sum(word in c for c in cut) for word in words])
    naive = np.array([[c.count(word) for word in words] for c in cut]) * (1 + np.log((1 + len(texts)) / (1 + df)))
    length = np.linalg.norm(naive, axis=1, keepdims=True)
    np.testing.assert_allclose(weights.toarray(), np.divide(naive, length, where=length > 0, out=np.zeros_like(naive)), atol=1e-6)
    assert weights.dtype == "float32" and not weights[-2:].nnz
    plain = ["robot loves robot", "detective hunts robot"]
    np.testing.assert_allclose(tfidf(plain)[0].toarray(), TfidfVectorizer().fit_transform(plain).toarray(), atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("abc 花नि", max_size=12), min_size=1, max_size=6), st.integers(1, 4))
def test_keywords_by_brute_force(texts, k):
    if not any(text_words(text) for text in texts):
        with pytest.raises(ValueError, match="holds a word"):
            tfidf(texts)
        return
    weights, words = tfidf(texts)
    dense = weights.toarray()
    lengths = np.linalg.norm(dense, axis=1)
    assert np.allclose(lengths[lengths > 0], 1) and (lengths > 0).tolist() == [bool(text_words(t)) for t in texts]
    ranked = [sorted(np.flatnonzero(row), key=lambda j: (-row[j], j))[:k] for row in dense]
    assert keywords(weights, words, k) == keywords(dense, words, k) == keywords(weights.tocsc(), words, k) == [[words[j] for j in row] for row in ranked]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=5))
def test_sentiment_is_bounded(texts):
    scores = sentiment(texts)
    assert scores.shape == (len(texts),) and scores.dtype == "float32" and (np.abs(scores) <= 1).all()


def test_sentiment_knows_praise_denial_and_its_limits():
    good, denied, bad, chinese, nothing = sentiment(["A wonderful film!", "Not a wonderful film.", "An awful bore.", "这部电影太差了", ""])
    assert good > .5 and denied < 0 and bad < -.3 and chinese == nothing == 0


@pytest.mark.parametrize("call, error, message", [
    (lambda: genre_tags(pd.DataFrame({"title": ["x"]})), ValueError, "items: no column 'genres'"),
    (lambda: tfidf("one text"), TypeError, "texts: got the single text 'one text'"), (lambda: tfidf(["the", ""]), ValueError, "none of the 2 texts"),
    (lambda: tfidf([]), ValueError, "none of the 0 texts"), (lambda: tfidf([None]), TypeError, "text: got None"),
    (lambda: keywords(tfidf(["a b"])[0], ["b", "c"]), ValueError, "words: got 2 words for 1 columns"), (lambda: keywords(*tfidf(["b"]), k=0), ValueError, "k: got 0"),
    (lambda: sentiment("good"), TypeError, "single text 'good'"), (lambda: sentiment(["good", None, 3]), TypeError, "2 are no text, the first is None at position 1"),
])
def test_faulty_calls_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.skipif("LLMREC_MOVIELENS_DIR" not in os.environ, reason="LLMREC_MOVIELENS_DIR does not name the publisher's ml-latest-small")
def test_the_publishers_tags_say_what_the_lesson_shows():
    tags = load_tags(os.environ["LLMREC_MOVIELENS_DIR"]).tag.drop_duplicates()
    felt = pd.Series(sentiment(tags), index=tags)
    assert (len(felt), round(float((felt == 0).mean()), 2)) == (582, 0.74)
    assert felt["kung fu"] < -.5 and felt["serial killer"] < -.5 and felt["liked the other two better"] > .5
