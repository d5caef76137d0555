"""LIME against the well-kept one, and sentences that claim no more than the figures."""
import numpy as np
import pandas as pd
import pytest
from lime.lime_base import LimeBase
from sklearn.exceptions import NotFittedError

from llmrec.data.dataset import Dataset
from llmrec.language.encoding import Stateless
from llmrec.recommenders.linear import EASE
from llmrec.tastes.profiles import ProfileRecommender
from llmrec.tastes.hybrids import Hybrid
from llmrec.lists.shares import like_values
from llmrec.lists.explanation import Explanation, explain, item_names, lime_values, shared_facts


class Letters(Stateless):
    """Unit vectors from counts of the letters a to h: an encoder that needs no model."""

    def transform(self, X):
        counts = np.array([[text.lower().count(letter) for letter in "abcdefgh"] for text in X], "float32")
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def dataset(n_users, n_items, seed=0):
    """Random ratings with titles, genres, years and times."""
    rng = np.random.default_rng(seed)
    X = np.where(rng.random((n_users, n_items)) < .4, rng.integers(1, 11, (n_users, n_items)) / 2, 0)
    user, item = np.nonzero(X)
    frame = pd.DataFrame({"user_id": user, "item_id": item, "rating": X[user, item], "timestamp": rng.permutation(len(user))})
    items = pd.DataFrame({"item_id": range(n_items), "title": ["".join(rng.choice(list("abcdefgh"), 5)) + f" {j}" for j in range(n_items)],
                          "genres": ["Action" if j % 2 else "Drama|Comedy" for j in range(n_items)], "year": pd.array(1990 + np.arange(n_items) % 25, "Int64")})
    return Dataset(frame, items, pd.RangeIndex(n_users, name="user_id"))


WIDE, TALL = dataset(12, 50), dataset(90, 14)  # the hybrid inverts the side of users, or that of items


def unseen(model, k=3, liked=False):
    """The k best items that are not in the history, for everybody; only such as somebody likes, if asked."""
    S = model.score_history(model.X_).astype("float64")
    S[model.X_.nonzero()] = -np.inf
    if liked: S[:, model.X_.getnnz(axis=0) == 0] = -np.inf
    return np.argsort(-S, axis=1)[:, :k]


def test_lime_equals_the_well_kept_lime_on_the_same_masks():
    seen = {}
    weights = np.array([2., -1, .5, 3])

    def value(masks):
        seen["masks"], seen["y"] = masks, masks @ weights + masks[:, 0] * masks[:, 1]
        return seen["y"]

    coef, base, r2 = lime_values(value, 4, n_samples=200, reg=1.)
    masks = seen["masks"].astype(float)
    kernel = np.exp(-(1 - np.sqrt(masks.mean(axis=1))) ** 2 / (2 * .25 ** 2))
    kernel *= len(masks) / kernel.sum()
    intercept, pairs, score, _ = LimeBase(lambda d: d).explain_instance_with_data(masks, seen["y"][:, None], kernel, 0, 4, feature_selection="none")
    assert np.allclose(coef, [dict(pairs)[j] for j in range(4)]) and np.isclose(base, intercept) and np.isclose(r2, score)


def test_lime_finds_a_sum_and_says_when_there_is_none():
    coef, base, r2 = lime_values(lambda masks: 1 + masks @ [1., 2, -3], 3, reg=0)
    assert np.allclose(coef, [1, 2, -3]) and np.isclose(base, 1) and np.isclose(r2, 1)
    assert lime_values(lambda masks: masks.sum(axis=1) % 2., 6)[2] < .3
    with pytest.raises(ValueError, match="n: got 0"):
        lime_values(lambda masks: masks.sum(axis=1), 0)


def test_an_unfitted_model_and_an_item_without_score_are_named():
    with pytest.raises(NotFittedError, match="EASE instance is not fitted"):
        explain(EASE(), 0, 1)
    with pytest.raises(NotFittedError, match="EASE instance is not fitted"):
        like_values(EASE(), WIDE.likes(), np.zeros((12, 1), int))
    model = EASE().fit(WIDE)
    [unliked] = np.flatnonzero(model.X_.getnnz(axis=0) == 0)[:1]
    with pytest.raises(ValueError, match="items: hold one that the model cannot score"):
        like_values(model, model.X_, np.full((12, 1), unliked))


def film(item_id, title, genres, year, **more):
    return {"item_id": item_id, "title": title, "genres": genres, "year": year, **more}


def by_hand(*likes, base=0., features=None, method="exact", item=("Aliens", "Action|Sci-Fi", 1986)):
    """An Explanation of made-up likes (title, genres, year, value)."""
    table = pd.DataFrame([film(n, title, genres, year, weight=1., value=value) for n, (title, genres, year, value) in enumerate(likes)])
    return Explanation(1, pd.Series(film(9, *item)), 1., base, table.sort_values("value", ascending=False), None if features is None else pd.Series(features), method)


def test_sentences_by_hand():
    two = by_hand(("Alien", "Horror|Sci-Fi", 1979, .5), ("Solaris", "Drama|Sci-Fi", 1972, .3), ("Big", "Comedy", 1988, .2), ("Up", "Comedy", 2009, -.4))
    assert two.sentence() == "Aliens: because you liked Alien and Solaris, which share Sci-Fi with it. That is 80% of what speaks for it."
    assert two.sentence("zh") == "《Aliens》：因为您喜欢《Alien》和《Solaris》（与它同属 Sci-Fi），这占支持理由的 80%。"
    decade = by_hand(("Big", "Comedy", 1988, .5), ("Up", "Comedy", 2009, -.4))
    assert decade.sentence() == "Aliens: because you liked Big, which shares the 1980s with it. That is 100% of what speaks for it."
    many = by_hand(*((f"Film {n}", "Drama", 1990, .1 + .001 * n) for n in range(10)))
    assert many.sentence().startswith("Aliens: many likes speak for it, none of them decides. Film 9 and Film 8 say most: 2")


def test_sentences_claim_nothing_that_is_not_so():
    assert by_hand(("Up", "Comedy", 2009, -.4)).sentence() == "Aliens: nothing that you liked speaks for it."
    mixed = by_hand(("Big", "Comedy", 1988, .4), ("Up", "Comedy", 2009, -.6))
    assert mixed.sentence().endswith(" More of what you liked speaks against it.") and mixed.sentence("zh").endswith("更多地反对它。")
    assert "against" not in by_hand(("Big", "Comedy", 1988, .4), ("Up", "Comedy", 2009, -.3)).sentence()
    assert by_hand(("Up", "Comedy", 2009, .4), base=.6).sentence() == "Aliens: most of its score is the same for everybody."
    estimated = by_hand(("Up", "Comedy", 1989, .3), ("Big", "Comedy", 1988, .1), base=.6, method="lime")
    assert estimated.sentence() == "Aliens: most of its score stays when some of your likes go. 100% of what likes add comes from Up and Big, which share the 1980s with it. (estimated)"
    assert estimated.sentence("zh").startswith("《Aliens》：去掉您喜欢的部分内容后，它的大部分得分仍然保留") and "because" in by_hand(("Up", "Comedy", 2009, .4), base=.3, method="lime").sentence()
    assert by_hand(("Up", "Comedy", 2009, .4), method="lime").sentence().endswith("(estimated)")
    through = by_hand(("Up", "Comedy", 2009, .4), features={"people": .6, "text": .4})
    assert through.sentence().endswith(" Most of it comes through people who chose what you liked.") and through.sentence("zh").endswith("主要来自选择过相同内容的人。")
    assert "people" not in by_hand(("Up", "Comedy", 2009, .4), features={"people": .4, "text": .6}).sentence()
    with pytest.raises(ValueError, match="language: got 'fr'"):
        by_hand(("Up", "Comedy", 2009, .4)).sentence("fr")


@pytest.mark.parametrize("title, name", [("River Wild, The", "The River Wild"), ("Affair to Remember, An", "An Affair to Remember"), ("Beautiful Mind, A", "A Beautiful Mind"), ("Kid, The (Le gosse)", "The Kid (Le gosse)"),
                                         ("The Kid", "The Kid"), ("Hi, Theo", "Hi, Theo"), ("Crouching Tiger, Hidden Dragon", "Crouching Tiger, Hidden Dragon"), (", The", ", The"), ("", "7"), (None, "7")])
def test_articles_come_back_to_the_front(title, name):
    assert item_names(pd.DataFrame({"item_id": [7], "title": [title]})) == [name]


def test_the_rows_shown_add_up_to_the_score():
    why = by_hand(*((f"Film {n}", "Drama", 1990, .3 - .1 * n) for n in range(12)), base=.1)
    assert why._table()[""].tolist() == [f"Film {n}" for n in range(8)] + ["4 other likes, sum"]
    assert np.isclose(why._table()["adds to the score"].sum(), why.likes.value.sum()) and "4 other likes, sum" in repr(why) and "4 other likes, sum" in why._repr_html_()
    assert len(by_hand(*((f"Film {n}", "Drama", 1990, .1) for n in range(9)))._table()) == 9  # no row for a single other


def test_the_features_shown_add_up_and_say_how_many_are_small():
    parts = {"people": .6, "text": .4, **{f"Genre {n}": .003 for n in range(12)}, "Crime": -.006, "War": 0.}
    why = by_hand(("Up", "Comedy", 2009, .4), features=parts)
    assert repr(why).endswith("by feature: people +0.6000, text +0.4000, and 13 smaller parts, together +0.0300")
    assert "and 13 smaller parts, together</td><td>+0.0300" in why._repr_html_() and "Genre" not in repr(why) + why._repr_html_()
    assert np.isclose(why._parts().sum(), sum(parts.values()))
    one = by_hand(("Up", "Comedy", 2009, .4), features={"people": .6, "text": .001})
    assert repr(one).endswith("people +0.6000, text +0.0010")  # a single small part has its name


def test_a_dislike_is_never_named_as_liked():
    why = by_hand(("Up", "Comedy", 2009, .4), ("Big", "Comedy", 1988, .3))
    why.likes["weight"] = [-1., 1.]
    assert "liked Big" in why.sentence() and "Up" not in why.sentence()


def test_shared_facts():
    items = pd.DataFrame([film(1, "", "Action|Drama", 1991), film(2, "", "Drama", 1999)])
    assert shared_facts(items) == ["Drama"]
    assert shared_facts(items.assign(genres=["Action", "Drama"]), "the {}s") == ["the 1990s"]
    assert shared_facts(items.assign(genres=["Action", ""], year=[1991, 2001])) == shared_facts(items[["item_id"]]) == []


def test_titles_are_escaped_in_html_and_in_plots():
    why = by_hand(("<script>alert(1)</script>", "Action", 1986, .5), ("$1 $2", "Action", 1986, .2), item=("<b>x</b>", "Action", 1986))
    page = why._repr_html_()
    assert "<script>" not in page and "<b>" not in page and "&lt;script&gt;" in page
    assert why.as_shap().feature_names[1] == r"\$1 \$2"
    with pytest.raises(ValueError, match="by: got 'features'; give 'likes'"):
        why.as_shap("features")


def test_explain_on_a_fitted_hybrid():
    model = Hybrid(Letters(), item_reg=3.).fit(WIDE)
    item = int(unseen(model)[3, 0])
    why = explain(model, 3, item)
    assert np.isclose(why.base + why.likes.value.sum(), why.score, atol=1e-6) and np.isclose(why.features.sum(), why.score, atol=1e-5)
    assert why.likes.value.is_monotonic_decreasing and set(why.likes.item_id) == set(model.X_[[3]].indices)
    assert why.sentence() in repr(why) and why.as_shap("features").values.sum() == pytest.approx(why.features.sum())
    liked = explain(model, 3, int(model.X_[[3]].indices[0]))
    assert liked.features is None and np.isclose(liked.base + liked.likes.value.sum(), liked.score, atol=1e-5)


def test_explain_estimates_what_does_not_add_up():
    model = ProfileRecommender(Letters()).fit(WIDE)
    item = int(unseen(model)[3, 0])
    first, again = (explain(model, 3, item, method="lime") for _ in range(2))
    assert first.method == "lime" and first.likes.equals(again.likes)


@pytest.mark.parametrize("call, message", [
    (lambda model: explain(model, 99, 0), "99"), (lambda model: explain(model, 0, 99), "99"),
    (lambda model: explain(model, 0, 0, method="magic"), "method: got 'magic'"), (lambda model: explain(model, 12, 0), "12 has no likes")], ids=["user", "item", "method", "no likes"])
def test_wrong_calls(call, message):
    frame = pd.concat([WIDE.interactions, pd.DataFrame({"user_id": [12], "item_id": [0], "rating": [1.], "timestamp": [1]})], ignore_index=True)
    with pytest.raises(ValueError, match=message):
        call(Hybrid(Letters(), reg=3.).fit(Dataset(frame, WIDE.items, pd.RangeIndex(13, name="user_id"))))
