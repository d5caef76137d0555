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
from sklearn.feature_extraction.text import HashingVectorizer

from llmrec import preprocessing, profiles
from llmrec.data import make_dataset
from llmrec.encoding import TextEncoder
from llmrec.evaluation import evaluate
from llmrec.recommenders import load_recommender
from llmrec.preprocessing import item_text
from llmrec.profiles import ProfileRecommender, mean_profile
from llmrec.similarity import cosine
from llmrec.splitting import temporal

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


@pytest.mark.parametrize("seed", range(3))
def test_mean_profile_equals_a_loop(seed):
    rng = np.random.default_rng(seed)
    V = rng.normal(size=(15, 6)).astype("float32")
    likes = rng.random((9, 15)) < .2
    likes[3] = False
    U = mean_profile(csr_matrix(likes, dtype="float32"), V)
    assert U.dtype == np.float32 and U.shape == (9, 6) and (U[3] == 0).all()
    for u, row in zip(U, likes):
        assert np.allclose(u, sum((V[i] for i in np.flatnonzero(row)), np.zeros(6)) / max(1, row.sum()), atol=1e-6)


# Text for a user is built from training data only

def functions(module):
    """Every function and method written in a module, by name."""
    own = [x for x in vars(module).values() if getattr(x, "__module__", None) == module.__name__]
    methods = [m for c in own if inspect.isclass(c) for m in vars(c).values() if inspect.isfunction(m)]
    return {f.__qualname__: f for f in [*filter(inspect.isfunction, own), *methods]}


def test_no_function_that_makes_a_profile_receives_a_split():
    makers = functions(profiles) | {"item_text": preprocessing.item_text}
    assert {"mean_profile", "ProfileRecommender.fit", "score_history", "profile_vectors", "weigh_history", "item_similarity", "item_text"} <= set(makers)
    for name, function in makers.items():
        for parameter in inspect.signature(function).parameters.values():
            told = f"{parameter.name} {parameter.annotation}".lower()
            assert "split" not in told, f"{name} takes {parameter}: profiles are made of one training part, never of a Split"
            assert parameter.kind is not parameter.VAR_KEYWORD, f"{name} takes anything by name, a Split too"
    for module in (profiles, preprocessing):
        imported = [name for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, (ast.Import, ast.ImportFrom))
                    for name in (getattr(node, "module", None) or "", *(alias.name for alias in node.names))]
        assert not any(re.search("split", name, re.I) for name in imported), f"{module.__name__} imports from splitting"


def test_a_split_is_refused(model):
    split = temporal(films())
    for call in (lambda: ProfileRecommender(Letters()).fit(split), lambda: model.score_history(split),
                 lambda: mean_profile(split, model.V_), lambda: item_text(split)):
        with pytest.raises((TypeError, ValueError, AttributeError), match="Split"):
            call()


@pytest.mark.parametrize("part", ["train", "fit"])
def test_what_people_like_later_changes_no_profile(part):
    splits = [temporal(films()), temporal(films(shift=3))]
    assert splits[0].hash != splits[1].hash and (splits[0].test.matrix() != splits[1].test.matrix()).nnz == 2 * N_USERS
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

def test_scores_are_cosines_with_the_mean_of_the_likes(model):
    V = Letters().transform(item_text(model.train_.items))
    S = model.score_items(model.train_.users[:N_USERS])
    assert S.dtype == np.float32 and np.allclose(S, cosine(mean_profile(model.train_.matrix()[:N_USERS], V), V), atol=1e-6)


def test_a_history_scores_the_same_whoever_has_it(model):
    H = model.train_.matrix()
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
    assert model.similar_items(ids[0], k=6).equals(table[:6]) and len(model.similar_items(ids[0], k=1000)) == len(ids) - 1
    with pytest.raises(ValueError, match="item_ids: unknown 'x'"):
        model.similar_items(["x"])
    with pytest.raises(ValueError, match="k: got 0"):
        model.similar_items(ids[0], k=0)


def test_an_item_is_left_out_of_its_own_list_among_equals():
    frame = pd.DataFrame({"user_id": 1, "item_id": range(6), "title": "the same"})
    table = ProfileRecommender(Letters()).fit(make_dataset(frame)).similar_items(range(6), k=3)
    assert table.groupby("item_id").similar_item_id.apply(list).to_dict() == {
        i: [j for j in range(6) if j != i][:3] for i in range(6)}


def test_it_can_be_cloned_and_its_encoder_stays_as_it_was(model):
    again = clone(model)
    assert again.get_params().keys() == model.get_params().keys() and not hasattr(again, "V_")
    assert np.array_equal(again.fit(films()).score_items([0, 5]), model.score_items([0, 5]))
    encoder = TextEncoder(max_length=16)
    given = ProfileRecommender(encoder)
    assert given.encoder is encoder and given.get_params()["encoder__max_length"] == 16


@pytest.mark.parametrize("wrong, message", [({"profile": "median"}, "profile: got 'median'; accepted are 'mean'"),
                                            ({"similarity": "dot"}, "similarity: got 'dot'; accepted are 'cosine'"),
                                            ({"template": "{titel}"}, "template: '{titel}' has the unknown field 'titel'")])
def test_wrong_parameters_are_refused_before_encoding(wrong, message):
    with pytest.raises(ValueError, match=message):
        ProfileRecommender(None, **wrong).fit(films())


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


def test_a_foreign_encoder_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match=r"class: got '[\w.]*test_profiles.Letters'; only estimators of llmrec"):
        ProfileRecommender(Letters()).fit(films()).save(tmp_path / "model.npz")
    foreign = ProfileRecommender(HashingVectorizer())   # one of its parameters is a type, which JSON does not know
    foreign.train_, foreign.X_ = films(), films().matrix()
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
