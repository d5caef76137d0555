"""Profiles: the mean against a loop, the rule that no test data reaches them, and the recommender built on them."""
import ast
import inspect
import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import HashingVectorizer

from llmrec.tastes import histories, interests, profiles
from llmrec.data import text as preprocessing
from llmrec.data.dataset import make_dataset
from llmrec.data.text import item_text
from llmrec.language.encoding import TextEncoder
from llmrec.language.indexes import ItemIndex
from llmrec.language.similarity import SIMILARITIES, cosine
from llmrec.evaluation.splitting import temporal
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.base import load_recommender
from llmrec.tastes.interests import InterestRecommender
from llmrec.tastes.histories import mean_profile, weigh_history
from llmrec.tastes.profiles import ProfileRecommender, profile_text
from llmrec.lists.explanation import explain
from llmrec.lists.shares import text_score

N_USERS, N_ITEMS = 12, 40


class Letters(TransformerMixin, BaseEstimator):
    """Counts letters: a language model that takes no time."""
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.array([[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in X], "float32")


def films(shift=0):
    """Twelve people like eight films each and then one more; `shift` changes only which one that is."""
    titles = ["".join(chr(97 + (i * j) % 26) for j in range(1, 9)) for i in range(1, N_ITEMS + 1)]
    rows = []
    for user in range(N_USERS):
        liked = [(user * 3 + 4 * j) % 30 for j in range(7)] + [30 + user % 10, 30 + (user + 1 + shift) % 10]
        rows += [(user, item, 5, 100 + place, titles[item]) for place, item in enumerate(liked)]
        rows.append((user, (user * 3 + 1) % 30, 2, 99, titles[(user * 3 + 1) % 30]))
    rows.append((N_USERS, 0, 1, 100, titles[0]))     # one who likes nothing
    return make_dataset(pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp", "title"]))


@pytest.fixture
def model():
    return ProfileRecommender(Letters()).fit(films())


WAYS = [{}, {"half_life": 2.}, {"by_rating": True}, {"dislikes": .5}, {"method": "attention"}, {"n_interests": 3, "dislikes": .5},
        {"method": "text", "half_life": 3.}]


def build(encoder=None, **way):
    """A model of the kind that takes these settings, on letters where no encoder is given."""
    return (InterestRecommender if "n_interests" in way else ProfileRecommender)(encoder or Letters(), **way)


# A profile in words

def test_a_profile_is_written_from_the_highest_weights_down():
    H = csr_matrix(np.float32([[1, 0, 2, 1, -3], [0, 0, 0, 0, 0], [0, -1, 0, 0, .5]]))
    assert profile_text(H, list("abcde"), n_titles=2) == ["c. a", "", "e"]
    assert profile_text(H, list("abcde"), n_titles=9) == ["c. a. d", "", "e"]


# Text for a user is built from training data only

def functions(module):
    """Every function and method written in a module, by name."""
    own = [x for x in vars(module).values() if getattr(x, "__module__", None) == module.__name__]
    methods = [m for c in own if inspect.isclass(c) for m in vars(c).values() if inspect.isfunction(m)]
    return {f.__qualname__: f for f in [*filter(inspect.isfunction, own), *methods]}


def test_no_function_that_makes_a_profile_receives_a_split():
    makers = functions(histories) | functions(profiles) | functions(interests) | {"item_text": preprocessing.item_text}
    assert {"mean_profile", "fit_profiles", "score_profiles", "profile_vectors", "weigh_history", "attention_scores", "interest_profiles", "ItemSpace.item_similarity",
            "item_text"} <= set(makers)
    for name, function in makers.items():
        for parameter in inspect.signature(function).parameters.values():
            told = f"{parameter.name} {parameter.annotation}".lower()
            assert "split" not in told, f"{name} takes {parameter}: profiles are made of one training part, never of a Split"
            assert parameter.kind is not parameter.VAR_KEYWORD, f"{name} takes anything by name, a Split too"
    for module in (histories, profiles, interests, preprocessing):
        imported = [name for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, (ast.Import, ast.ImportFrom))
                    for name in (getattr(node, "module", None) or "", *(alias.name for alias in node.names))]
        assert not any(re.search("split", name, re.I) for name in imported), f"{module.__name__} imports from splitting"


def test_a_split_is_refused(model):
    split = temporal(films())
    for call in (lambda: ProfileRecommender(Letters()).fit(split), lambda: model.score_history(split),
                 lambda: mean_profile(split, model.V_), lambda: item_text(split), lambda: weigh_history(split)):
        with pytest.raises((TypeError, ValueError, AttributeError), match="Split"):
            call()


@pytest.mark.parametrize("part", ["train", "fit"])
def test_what_people_like_later_changes_no_profile(part):
    splits = [temporal(films()), temporal(films(shift=3))]
    assert splits[0].hash != splits[1].hash and (splits[0].test.likes() != splits[1].test.likes()).nnz == 2 * N_USERS
    models = [ProfileRecommender(Letters()).fit(getattr(split, part)) for split in splits]
    profiles_of = [mean_profile(model.X_, model.V_).tobytes() for model in models]
    scores = [model.score_items(model.train_.users).tobytes() for model in models]
    assert profiles_of[0] == profiles_of[1] and scores[0] == scores[1]


def test_evaluate_hands_over_training_parts_only(monkeypatch):
    split, seen = temporal(films()), []
    fit = ProfileRecommender.fit
    monkeypatch.setattr(ProfileRecommender, "fit", lambda self, train: seen.append(train) or fit(self, train))
    for stage in ("test", "validation"):
        evaluate(ProfileRecommender(Letters()), split, stage)
    assert [part is wanted for part, wanted in zip(seen, (split.fit, split.train), strict=True)] == [True, True]


# The recommender

@pytest.mark.parametrize("centre", [True, False])
def test_scores_are_cosines_with_the_mean_of_the_likes(centre):
    model = ProfileRecommender(Letters(), centre=centre).fit(films())
    V = Letters().transform(item_text(model.train_.items))
    if centre:
        V = V - V.mean(axis=0)
    S = model.score_items(model.train_.users[:N_USERS])
    assert S.dtype == np.float32 and np.allclose(S, cosine(mean_profile(model.train_.likes()[:N_USERS], V), V), atol=1e-5)


def test_what_all_items_share_is_nobodys_taste():
    """A word in every title moves no list, and one person's own likes are told from the catalogue's mean."""
    titles = ["aab", "aba", "bbc", "bcb", "ccb", "cac"]
    frame = lambda word: make_dataset(pd.DataFrame({"user_id": 1, "item_id": range(2), "title": titles[:2]})[["user_id", "item_id"]],
                                      pd.DataFrame({"item_id": range(6), "title": [word + title for title in titles]}))
    plain, shared = (ProfileRecommender(Letters()).fit(frame(word)).score_items([1])[0] for word in ("", "zzzzzzzz"))
    assert np.allclose(plain, shared, atol=1e-5) and np.ptp(plain) > .5
    raw = ProfileRecommender(Letters(), centre=False).fit(frame("zzzzzzzz")).score_items([1])[0]
    assert np.ptp(raw) < .1, "the control: with the mean left in, all items look alike"


@pytest.mark.parametrize("way", [*({"method": method} for method in profiles.PROFILES), {"n_interests": 3}], ids=str)
def test_an_item_without_text_cannot_be_scored(way):
    """-inf for the item, and for whoever likes nothing else; the others are scored as if it were not there."""
    data = films()
    items = data.items.assign(title=data.items.title.mask(data.items.item_id == 3, ""))
    model = build(**way).fit(make_dataset(data.interactions, items))
    H = csr_matrix(([1., 1, 1], ([0, 1, 1], [3, 3, 5])), shape=(3, N_ITEMS), dtype="float32")
    S = model.score_history(H)
    assert np.isneginf(S[[0, 2]]).all() and np.flatnonzero(np.isneginf(S[1])).tolist() == [3]
    without = csr_matrix(([1.], ([0], [5])), shape=(1, N_ITEMS), dtype="float32")
    assert np.allclose(np.delete(S[1], 3), np.delete(model.score_history(without)[0], 3), atol=1e-5)
    if way != {"method": "attention"}:
        assert np.isneginf(model.score_text("abc")[0, 3])


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_way_scores_weighted_histories_and_one_alone_as_among_others(way):
    model = build(**way).fit(films())
    H = weigh_history(films(), model.half_life, model.by_rating, model.dislikes)
    S = model.score_items(model.train_.users)
    assert (model.X_ != H).nnz == 0 and S.dtype == np.float32 and (S[N_USERS] == -np.inf).all() and np.isfinite(S[:N_USERS]).all()
    assert np.array_equal(S, model.score_history(H))
    assert all(np.allclose(S[[u]], model.score_history(H[[u]]), atol=1e-5) for u in range(N_USERS))
    assert (model.recommend(range(N_USERS), k=5).groupby("user_id").size() == 5).all()


def test_a_film_near_a_disliked_one_falls():
    frame = pd.DataFrame(dict(user_id=1, item_id=range(4), rating=[5, 1, 3, 3], timestamp=1, title=["aab", "bba", "ba", "ab"]))
    plain, against = (ProfileRecommender(Letters(), dislikes=d).fit(make_dataset(frame)).score_items([1])[0] for d in (0, .9))
    assert against[1] < plain[1] and against[0] > against[1]


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_an_exact_index_gives_the_same_best_and_nothing_else(similarity):
    whole, few = (ProfileRecommender(Letters(), similarity=similarity, index=index, n_candidates=15).fit(films()) for index in ("", "Flat"))
    S, F = (model.score_items(range(N_USERS)) for model in (whole, few))
    assert ((F > -np.inf).sum(axis=1) == 15).all() and np.allclose(F[F > -np.inf], S[F > -np.inf], atol=1e-4)
    assert np.allclose(-np.sort(-S, axis=1)[:, :15], -np.sort(-F, axis=1)[:, :15], atol=1e-4)
    everything = ProfileRecommender(Letters(), similarity=similarity, index="Flat", n_candidates=1000).fit(films())
    assert np.allclose(everything.score_items(range(N_USERS)), S, atol=1e-4)


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("way", [{}, {"n_interests": 3}, {"method": "text", "half_life": 2.}], ids=str)
def test_lists_from_an_index_are_those_of_all_items(way, seen):
    """Only what the index finds is scored; where it finds everything, the lists have the same scores and the same shape."""
    whole, indexed = build(**way).fit(films()), build(**way, index="Flat", n_candidates=N_ITEMS).fit(films())
    ids = [3, N_USERS, 0, 11]
    a, b = (model.recommend(ids, k=6, exclude_seen=seen) for model in (whole, indexed))
    assert a.user_id.tolist() == b.user_id.tolist() and a["rank"].tolist() == b["rank"].tolist() and np.allclose(a.score, b.score, atol=1e-5)
    assert b.attrs["short_lists"] == a.attrs["short_lists"] == 1 and list(b) == list(a)
    rated = indexed.train_.interactions.set_index(["user_id", "item_id"]).index
    assert not seen or not b.set_index(["user_id", "item_id"]).index.isin(rated).any()
    few = build(**way, index="Flat", n_candidates=2).fit(films()).recommend(ids, k=9, exclude_seen=False)
    assert few.attrs["short_lists"] == 4 and (few.groupby("user_id").size() <= 6).all()
    a, b = (model.recommend_text(["abc", " ", "zebra"], k=4) for model in (whole, indexed))
    assert a.text.tolist() == b.text.tolist() and np.allclose(a.score, b.score, atol=1e-5) and b.attrs["short_lists"] == 1
    assert indexed.recommend(0, candidates=[31, 33, 35], k=2).item_id.isin([31, 33, 35]).all()
    assert indexed.recommend([], k=2).empty
    with pytest.raises(ValueError, match="k: got 0"):
        indexed.recommend(0, k=0)


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("way", [*WAYS, {"similarity": "euclidean"}, {"method": "attention", "similarity": "pearson"}, {"n_interests": 2, "index": "Flat"}], ids=str)
def test_candidates_are_scored_as_among_all(way, centre):
    data = films()
    data = make_dataset(data.interactions, data.items.assign(title=data.items.title.mask(data.items.item_id == 3, "")))
    model = build(**way, centre=centre, **({"n_candidates": N_ITEMS} if "index" in way else {})).fit(data)
    codes = np.random.default_rng(0).integers(-1, N_ITEMS, (N_USERS + 1, 9))
    codes[2, :2] = 3, -1
    S = model.score_candidates(data.users, codes)
    wanted = np.where(codes < 0, -np.inf, np.take_along_axis(model.score_items(data.users), codes, axis=1))
    assert S.dtype == np.float32 and np.array_equal(np.isneginf(S), np.isneginf(wanted)) and (S[N_USERS] == -np.inf).all()
    assert np.allclose(S[S > -np.inf], wanted[S > -np.inf], atol=1e-5)
    assert model.score_candidates([0], np.empty((1, 0), int)).shape == (1, 0)


def test_candidates_are_scored_without_a_look_at_the_others(model, monkeypatch):
    monkeypatch.setattr(profiles, "score_vectors", lambda *args: pytest.fail("all items were scored"))
    codes = np.array([[3, 5], [7, -1]])
    assert np.isfinite(model.score_candidates([0, 1], codes)).tolist() == [[True, True], [True, False]]
    indexed = ProfileRecommender(Letters(), index="Flat").fit(films())
    assert len(indexed.recommend([0, 1], k=3)) == 6 and len(indexed.recommend_text("abc", k=3)) == 3


def test_a_taste_in_words(model):
    S = model.score_text(["aaa", " ", "zebra"])
    wanted = cosine(Letters().transform(["aaa", "zebra"]) - model.mean_, model.V_)
    assert S.dtype == np.float32 and np.allclose(S[[0, 2]], wanted, atol=1e-5) and (S[1] == -np.inf).all()
    assert np.allclose(model.score_text("zebra"), S[[2]], atol=1e-5)
    table = model.recommend_text(["aaa", " ", "zebra"], k=3)
    assert list(table) == ["text", "item_id", "rank", "score"] and table.text.tolist() == ["aaa"] * 3 + ["zebra"] * 3 and table.attrs["short_lists"] == 1
    assert table.item_id.tolist() == [j for row in (0, 2) for j in np.argsort(-S[row], kind="stable")[:3]]
    assert model.recommend_text("zebra", k=3).item_id.tolist() == table.item_id.tolist()[3:]
    for wrong, message in [([3], r"texts\[0\]: got 3"), (None, "texts: got NoneType")]:
        with pytest.raises(TypeError, match=message):
            model.score_text(wrong)
    with pytest.raises(ValueError, match="k: got 0"):
        model.recommend_text("a", k=0)


def test_fitting_again_forgets_what_was_made_for_the_first_fit():
    model = ProfileRecommender(Letters(), index="Flat").fit(films())
    small = make_dataset(films().interactions.query("item_id < 20"), films().items.query("item_id < 20"))
    assert isinstance(model.item_index, ItemIndex) and len(model.item_index) == N_ITEMS and len(model.fit(small).item_index) == 20


class Broken(Letters):
    """Reads the first so many lists of texts, and then no more."""
    def __init__(self, left=0, gives=None):
        self.left, self.gives = left, gives

    def transform(self, X):
        if self.gives is not None:
            return self.gives
        raise KeyboardInterrupt


@pytest.mark.parametrize("encoder, error", [(Broken(), KeyboardInterrupt), (Broken(gives=np.ones((3, 2))), ValueError), (Broken(gives=np.ones(N_ITEMS)), ValueError),
                                            (Broken(gives=np.full((N_ITEMS, 2), np.inf)), ValueError), (Broken(gives="x"), ValueError)], ids=str)
def test_a_failed_fit_leaves_the_model_as_it_was(model, encoder, error):
    with pytest.raises(error, match=None if error is KeyboardInterrupt else "^encoder: gave"):
        (new := ProfileRecommender(encoder)).fit(films())
    assert vars(new) == vars(ProfileRecommender(encoder))
    with pytest.raises(NotFittedError):
        new.recommend(1)
    before, small = model.recommend(range(N_USERS)), make_dataset(films().interactions.query("item_id < 20"), films().items.query("item_id < 20"))
    with pytest.raises(error):
        model.set_params(encoder=encoder).fit(small)
    assert model.recommend(range(N_USERS)).equals(before) and model.V_.shape == (N_ITEMS, 26)


def test_a_fit_that_fails_at_the_index_or_the_data_leaves_nothing():
    bare = make_dataset(films().interactions[["user_id", "item_id"]], films().items)
    for settings, data in (({"index": "Nonsense"}, films()), ({"half_life": 5.}, bare), ({}, "films")):
        model = ProfileRecommender(Letters(), **settings)
        with pytest.raises((ValueError, TypeError), match="factory: got 'Nonsense'|index: got 'Nonsense'|half_life: got 5.0|train: got str"):
            model.fit(data)
        assert not any(name.endswith("_") for name in vars(model)) and "reader" not in vars(model)


def test_attention_has_no_vector():
    with pytest.raises(TypeError, match="method: 'attention'"):
        ProfileRecommender(Letters(), "attention").fit(films()).profile_vectors(films().likes())


def test_a_history_scores_the_same_whoever_has_it(model):
    H = model.train_.likes()
    assert np.array_equal(model.score_history(H), model.score_items(model.train_.users))
    new = csr_matrix(([1.], ([0], [3])), shape=(2, N_ITEMS), dtype="float32")
    S = model.score_history(new)
    assert np.allclose(S[0], cosine(model.V_[[3]], model.V_)[0], atol=1e-6) and (S[1] == -np.inf).all()


def test_who_likes_nothing_gets_an_empty_list_that_is_counted(model):
    lists = model.recommend([N_USERS, 0], k=5)
    assert lists.user_id.tolist() == [0] * 5 and lists.attrs["short_lists"] == 1
    lists = model.recommend(N_USERS)
    assert lists.empty and lists.attrs["short_lists"] == 1 and list(lists) == ["user_id", "item_id", "rank", "score"]


def test_similar_items(model):
    ids = model.train_.item_ids
    table = model.similar_items(ids, k=6)
    S = cosine(model.V_, model.V_)
    np.fill_diagonal(S, -np.inf)
    assert (table["rank"].to_numpy() == np.tile(range(1, 7), len(ids))).all() and (table.item_id != table.similar_item_id).all()
    assert np.allclose(table.score.to_numpy().reshape(-1, 6), -np.sort(-S, axis=1)[:, :6], atol=1e-6)
    assert np.allclose(model.similar_items(ids[0], k=6).score, table.score[:6], atol=1e-5) and len(model.similar_items(ids[0], k=1000)) == len(ids) - 1
    with pytest.raises(ValueError, match="item_ids: unknown 'x'"):
        model.similar_items(["x"])
    with pytest.raises(ValueError, match="k: got 0"):
        model.similar_items(ids[0], k=0)


def test_an_item_is_left_out_of_its_own_list_among_equals():
    frame = pd.DataFrame({"user_id": 1, "item_id": range(6), "title": "the same"})
    table = ProfileRecommender(Letters()).fit(make_dataset(frame)).similar_items(range(6), k=3)
    assert (table.item_id != table.similar_item_id).all() and (table.groupby("item_id").similar_item_id.nunique() == 3).all()


def test_it_can_be_cloned_and_its_encoder_stays_as_it_was(model):
    again = clone(model)
    assert again.get_params().keys() == model.get_params().keys() and not hasattr(again, "V_")
    assert np.array_equal(again.fit(films()).score_items([0, 5]), model.score_items([0, 5]))
    encoder = TextEncoder(max_length=16)
    given = ProfileRecommender(encoder)
    assert given.encoder is encoder and given.get_params()["encoder__max_length"] == 16


@pytest.mark.parametrize("wrong, message", [({"method": "median"}, "method: got 'median'; give one of 'mean'"),
                                            ({"similarity": "dot"}, "similarity: got 'dot'; give one of 'cosine'"),
                                            ({"half_life": -1}, "half_life: got -1"), ({"dislikes": np.inf}, "dislikes: got inf"),
                                            ({"temperature": 0}, "temperature: got 0"),
                                            ({"n_titles": 1.5}, "n_titles: got 1.5"), ({"n_candidates": 0}, "n_candidates: got 0"),
                                            ({"index": "Flat", "method": "attention"}, "index: got 'Flat' with method='attention'"),
                                            ({"dislikes": .5, "method": "text"}, "dislikes: got 0.5 with method='text'"),
                                            ({"template": "{titel}"}, "template: '{titel}' has the unknown field 'titel'")])
def test_wrong_parameters_are_refused_before_encoding(wrong, message):
    with pytest.raises(ValueError, match=message):
        ProfileRecommender(None, **wrong).fit(films())


@pytest.mark.parametrize("name, value", [("method", ["mean"]), ("similarity", None), ("template", 5), ("index", 5), ("centre", "yes"), ("by_rating", 1), ("encoder", 5),
                                         ("encoder", Letters), ("temperature", "a"), ("temperature", True), ("half_life", "a"), ("half_life", True), ("dislikes", "a"),
                                         ("dislikes", [1]), ("n_titles", None), ("n_candidates", 1.5)])
def test_settings_of_another_type_are_refused_by_name(name, value):
    model = ProfileRecommender(Letters()).set_params(**{name: value})
    with pytest.raises((ValueError, TypeError), match=f"^{name}: got"):
        model.fit(films())
    assert not hasattr(model, "train_")


def test_explanations_follow_the_centring(model):
    """What a text of an item would score is what the model scores with the text that it has."""
    user, item = 0, int(model.train_.item_codes([39])[0])
    text = item_text(model.train_.items)[item]
    assert text_score(model, user, 39)([text]) == pytest.approx(model.score_items([user])[0, item], abs=1e-5)
    found = explain(model, user, 39, method="lime")
    assert found.score == pytest.approx(float(model.score_items([user])[0, item]), abs=1e-5)


# Files

@pytest.mark.parametrize("folder", [str, lambda path: path], ids=["text", "Path"])
def test_a_saved_recommender_comes_back(tmp_path, folder):
    encoder = TextEncoder(device="cpu", dtype="float32", cache_dir=folder(tmp_path / "cache"))
    model = ProfileRecommender(encoder, template="{title}").fit(films())
    model.save(tmp_path / "model.npz")
    back = load_recommender(tmp_path / "model.npz")
    assert isinstance(back.encoder, TextEncoder) and back.template == "{title}" and str(back.encoder.cache_dir) == str(encoder.cache_dir)
    assert back.V_.tobytes() == model.V_.tobytes() and back.recommend(range(N_USERS)).equals(model.recommend(range(N_USERS)))
    assert np.array_equal(clone(back).fit(films()).V_, model.V_)


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("way", [{"method": "attention", "half_life": 5.}, {"n_interests": 3, "index": "Flat", "dislikes": .5},
                                 {"method": "text", "half_life": 5.}], ids=str)
def test_a_loaded_recommender_weighs_looks_up_and_reads_as_before(tmp_path, way, centre):
    encoder = TextEncoder(device="cpu", dtype="float32", cache_dir=str(tmp_path / "cache"))
    model = build(encoder, template="{title}", centre=centre, **way).fit(films())
    model.save(tmp_path / "model.npz")
    back = load_recommender(tmp_path / "model.npz")
    assert back.mean_.any() == centre and back.mean_.tobytes() == model.mean_.tobytes()
    assert (back.X_ != model.X_).nnz == 0 and back.recommend(range(N_USERS)).equals(model.recommend(range(N_USERS)))
    assert back.recommend_text("space").equals(model.recommend_text("space"))


def test_a_foreign_encoder_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match=r"class: got '[\w.]*test_profiles.Letters'; only estimators of llmrec"):
        ProfileRecommender(Letters()).fit(films()).save(tmp_path / "model.npz")
    foreign = ProfileRecommender(HashingVectorizer())   # one of its parameters is a type, which JSON does not know
    foreign.train_, foreign.X_ = films(), films().likes()
    with pytest.raises((TypeError, ValueError), match="HashingVectorizer"):
        foreign.save(tmp_path / "foreign.npz")
    assert not any(tmp_path.iterdir())


def test_a_file_builds_estimators_and_calls_nothing_else(tmp_path, model):
    victim = tmp_path / "victim.csv"
    victim.write_text("precious")
    model.encoder = None
    model.save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as file:
        parts = dict(file)
    header = json.loads(str(parts["header"]))
    for name, params in [("pipeline.write_table", {"table": None, "path": str(victim)}), ("cli.main", {"argv": ["doctor"]})]:
        header["params"]["encoder"] = {"class": f"llmrec.{name}", "params": params}
        np.savez(tmp_path / "hostile.npz", **(parts | {"header": json.dumps(header)}))
        with pytest.raises(ValueError, match="class: got"):
            load_recommender(tmp_path / "hostile.npz")
    assert victim.read_text() == "precious"
