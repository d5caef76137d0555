"""What every recommender promises, held to the two simplest, and the file that keeps a model."""
import json
import os
import zipfile

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid

from llmrec.data.dataset import Dataset, make_dataset
from llmrec.language.similarity import tie_order
from llmrec.recommenders.base import Popularity, Random, Recommender, build_estimator, load_recommender

MODELS = [Popularity(), Random(rng=3)]


@pytest.fixture(params=["integers", "text"])
def data(request):
    """12 people, 15 items and one that nobody rated; the first person rated all the others, the second two of them, one with 0 stars."""
    rng = np.random.default_rng(0)
    rated = [(0, i, 1 + i % 5, i) for i in range(15)] + [(1, 4, 5, 1), (1, 9, 0, 2)]
    rated += [(u, i, rng.integers(1, 6), rng.integers(100)) for u in range(2, 12) for i in rng.permutation(15)[:6]]
    frame, items = pd.DataFrame(rated, columns=["user_id", "item_id", "rating", "timestamp"]), pd.DataFrame({"item_id": range(16)})
    items["title"], items["year"] = [f"花样 {i}" for i in range(16)], [None, *range(1990, 2005)]
    if request.param == "text":
        for table in (frame, items):
            for column in table.columns.intersection(["user_id", "item_id"]):
                table[column] = table[column].map("用{:03}".format)
    return make_dataset(frame, items)


class Fixed(Recommender):
    """Scores as given, one row for everybody."""

    def __init__(self, scores=None): self.scores = scores

    def score_history(self, H): return np.tile(np.asarray(self.scores, "float32"), (H.shape[0], 1))


def lists(table):
    """user -> item ids in order."""
    return table.groupby("user_id").item_id.agg(list).to_dict()


# Lists

@pytest.mark.parametrize("model", MODELS)
def test_nothing_that_was_rated_is_recommended(model, data):
    model = clone(model).fit(data)
    table = model.recommend(data.users, k=16)
    rated = data.interactions.groupby("user_id").item_id.agg(set)
    assert {user: set(items) for user, items in lists(table).items()} == {user: set(data.item_ids) - rated[user] for user in data.users}
    assert table.columns.tolist() == ["user_id", "item_id", "rank", "score"] and table.attrs["short_lists"] == 12
    for user, own in table.groupby("user_id"):
        assert own["rank"].tolist() == list(range(1, len(own) + 1)) and own.score.is_monotonic_decreasing and own.item_id.is_unique
    assert model.recommend(data.users, k=1).attrs["short_lists"] == 0
    everything = model.recommend(data.users, k=16, exclude_seen=False)
    assert len(everything) == 12 * 16 and everything.attrs["short_lists"] == 0


def test_what_cannot_be_scored_is_not_listed_and_ties_fall_by_the_shuffle(data):
    scores = [-np.inf] * 4 + [1, 3, 3, -np.inf, 3, 0, 0, 0, 0, 0, 0, -np.inf]
    table = Fixed(scores).fit(data).recommend(data.users[[1, 1]], k=10, exclude_seen=False)
    tied = lambda codes: [code for code in tie_order(16) if code in codes]
    expected = [*tied({5, 6, 8}), 4, *tied(range(9, 15))]
    assert table.item_id.tolist() == data.item_ids[expected].tolist() * 2 and table.attrs["short_lists"] == 0
    longer = Fixed(scores).fit(data).recommend(data.users[[1]], k=11)
    assert longer.item_id.tolist() == data.item_ids[[*tied({5, 6, 8}), *tied(range(10, 15))]].tolist() and longer.attrs["short_lists"] == 1
    nothing = Fixed([-np.inf] * 16).fit(data).recommend(data.users, k=3)
    assert len(nothing) == 0 and nothing.columns.tolist() == ["user_id", "item_id", "rank", "score"] and nothing.attrs["short_lists"] == 12


def test_users_stand_in_the_order_asked_for(data):
    model = Random().fit(data)
    some = data.users[[5, 2, 5]]
    table = model.recommend(some, k=3)
    assert table.user_id.tolist() == [user for user in some for _ in range(3)]
    alone = pd.concat([model.recommend(user, k=3) for user in some], ignore_index=True)
    pd.testing.assert_frame_equal(table, alone)
    assert len(model.recommend([], k=3)) == 0


@pytest.mark.parametrize("model", MODELS)
def test_candidates(model, data):
    few = data.item_ids[[15, 3, 9]]
    table = clone(model).fit(data).recommend(data.users, k=3, candidates=few)
    assert set(table.item_id) <= set(few) and (table.user_id == data.users[0]).sum() == 1 and table.attrs["short_lists"] > 0
    assert len(clone(model).fit(data).recommend(data.users, candidates=[])) == 0


def test_faulty_calls_are_refused(data):
    model = Popularity().fit(data)
    with pytest.raises(ValueError, match="user_ids: unknown 'nobody'; known are 12 ids"):
        model.recommend(["nobody"])
    with pytest.raises(ValueError, match="user_ids: unknown 'nobody'"):
        model.score_items(["nobody"])
    with pytest.raises(ValueError, match="unknown -5; known are 16 ids"):
        model.recommend(data.users[:1], candidates=[-5])
    with pytest.raises(ValueError, match="^k: got 0"):
        model.recommend(data.users[:1], k=0)
    with pytest.raises(ValueError, match="^scores: hold NaN"):
        Fixed([np.nan] * 16).fit(data).recommend(data.users[:1])
    with pytest.raises(ValueError, match="not fitted"):
        Popularity().recommend(data.users[:1])


# Items beside an item

class Alike(Fixed):
    """Items with the same remainder by 5 are alike, the lower the more."""

    def item_similarity(self, codes):
        n = np.arange(self.train_.n_items)
        return np.where(n % 5 == np.asarray(codes)[:, None] % 5, -n, -np.inf).astype("float32")


def test_similar_items(data):
    model = Alike([0.] * 16).fit(data)
    table = model.similar_items(data.item_ids[[7, 0, 7]], k=3)
    assert table.columns.tolist() == ["item_id", "similar_item_id", "rank", "score"] and table.attrs["short_lists"] == 2
    assert table.similar_item_id.tolist() == data.item_ids[[2, 12, 5, 10, 15, 2, 12]].tolist()
    assert table.item_id.tolist() == data.item_ids[[7, 7, 0, 0, 0, 7, 7]].tolist() and table["rank"].tolist() == [1, 2, 1, 2, 3, 1, 2]
    assert table.score.tolist() == [-2, -12, -5, -10, -15, -2, -12]
    many = np.tile(data.item_ids, 80)  # more than a block
    whole = model.similar_items(many, k=2)
    assert whole.similar_item_id.tolist() == model.similar_items(data.item_ids, k=2).similar_item_id.tolist() * 80
    assert len(model.similar_items([], k=2)) == 0
    with pytest.raises(ValueError, match="item_ids: unknown"):
        model.similar_items("nothing")
    with pytest.raises(ValueError, match="^k: got 0"):
        model.similar_items(data.item_ids[:1], k=0)
    with pytest.raises(TypeError, match="Popularity does not say which items are alike"):
        Popularity().fit(data).similar_items(data.item_ids[:1])


# Models

def test_popularity_counts_likes_of_others_and_own(data):
    model = Popularity().fit(data)
    liked = data.interactions.query("rating >= 4").item_id.value_counts().reindex(data.item_ids, fill_value=0)
    assert (model.likes_ == liked).all() and (model.score_items(data.users) == liked.to_numpy()).all()
    stranger = csr_matrix((2, 16), dtype="float32")
    assert (model.score_history(stranger) == model.likes_).all() and model.score_history(stranger).shape == (2, 16)


@pytest.mark.parametrize("model", MODELS)
def test_scores_depend_on_data_and_parameters_alone(model, data):
    first, second = clone(model).fit(data), clone(model).fit(data)
    whole = first.score_items(data.users)
    assert whole.shape == (12, 16) and whole.dtype == np.float32 and np.isfinite(whole).all()
    assert (whole == second.score_items(data.users)).all() and (whole == first.fit(data).score_items(data.users)).all()
    assert (whole == np.vstack([first.score_items(data.users[i:i + 5]) for i in range(0, 12, 5)])).all()
    assert (whole[[7, 2, 7]] == first.score_items(data.users[[7, 2, 7]])).all()


def test_chance_is_even(movielens):
    scores = Random().fit(movielens).score_items(movielens.users[:50])
    assert scores.min() >= 0 and scores.max() < 1 and abs(scores.mean() - .5) < .003
    assert abs(np.corrcoef(scores) - np.eye(50)).max() < .06 and abs(scores.mean(axis=0).std() * 50**.5 - 12**-.5) < .01
    assert (Random(rng=1).fit(movielens).score_items([1]) != scores[:1]).any()


def test_the_promises_of_scikit_learn(data):
    fitted = Random(rng=3).fit(data)
    copy = clone(fitted)
    assert copy.get_params() == {"rng": 3} and not hasattr(copy, "train_") and Popularity().get_params() == {}
    assert copy.set_params(rng=4) is copy and copy.rng == 4 and fitted.fit(data) is fitted
    seeds = [Random().set_params(**params).fit(data).seed_ for params in ParameterGrid({"rng": [3, 4]})]
    assert seeds[0] == fitted.seed_ != seeds[1]
    with pytest.raises(ValueError):
        Random().set_params(seed=3)


@pytest.mark.parametrize("model", MODELS)
def test_the_data_stay(model, data):
    before = [table.copy() for table in (data.interactions, data.items)]
    clone(model).fit(data).recommend(data.users)
    for table, old in zip((data.interactions, data.items), before):
        pd.testing.assert_frame_equal(table, old)


# The file

@pytest.mark.parametrize("model", MODELS)
def test_a_saved_model_comes_back(model, data, tmp_path):
    path = tmp_path / "a.model"
    model = clone(model).fit(data)
    model.save(path)
    again = load_recommender(path)
    assert os.listdir(tmp_path) == ["a.model"] and type(again) is type(model) and again.get_params() == model.get_params()
    assert vars(again).keys() == vars(model).keys()
    pd.testing.assert_frame_equal(again.recommend(data.users, k=5), model.recommend(data.users, k=5))
    for name in ("interactions", "items"):
        pd.testing.assert_frame_equal(getattr(again.train_, name), getattr(data, name))
    pd.testing.assert_index_equal(again.train_.users, data.users)
    assert again.train_.notes == data.notes and (again.score_items(data.users) == model.score_items(data.users)).all()
    again.save(path)
    assert (load_recommender(path).score_items(data.users) == model.score_items(data.users)).all()


@pytest.fixture
def saved(data, tmp_path):
    Popularity().fit(data).save(tmp_path / "a.model")
    return tmp_path / "a.model"


def test_a_damaged_file_is_refused(saved):
    whole = saved.read_bytes()
    rng = np.random.default_rng(0)
    flipped = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:] for at in rng.integers(200, len(whole) - 1500, 12)]
    for content in (b"", b"no model", whole[:-1], whole[:len(whole) // 2], *flipped):
        saved.write_bytes(content)
        with pytest.raises(ValueError, match="a.model is not a whole saved model"):
            load_recommender(saved)
    with pytest.raises(FileNotFoundError):
        load_recommender(saved.with_name("nowhere"))


def rewrite(path, **changes):
    """Put other values into the header of a saved model."""
    with np.load(path, allow_pickle=False) as file:
        parts = dict(file)
    parts["header"] = json.dumps(json.loads(str(parts["header"])) | changes)
    with open(path, "wb") as file:
        np.savez(file, **parts)


@pytest.mark.parametrize("name", ["os.system", "sklearn.dummy.DummyClassifier", "llmrecx.recommenders.Random", "llmrec.data.dataset.csr_matrix",
                                  "llmrec.data.dataset.load_interactions", "llmrec.recommenders.base.BaseEstimator", "llmrec.recommenders.base.json",
                                  "llmrec.nothing.Random", "llmrec.recommenders.base.Nothing", "Random", ""])
def test_a_foreign_class_is_refused(name, saved):
    with pytest.raises(ValueError, match="class: got"):
        build_estimator({"class": name, "params": {}})
    rewrite(saved, **{"class": name})
    with pytest.raises(ValueError, match="class: got"):
        load_recommender(saved)


@pytest.mark.parametrize("changes", [{"params": {"colour": 1}}, {"class": 3}, {"notes": 3}, {"learned": ["nothing_"]}])
def test_a_header_that_does_not_fit_is_refused(changes, saved):
    rewrite(saved, **changes)
    with pytest.raises(ValueError, match="a.model is not a whole saved model"):
        load_recommender(saved)


def test_lists_of_no_length_and_unfitted_models_are_refused(data):
    for k in (0, -1, 2.5):
        with pytest.raises(ValueError, match="^k: got"):
            Popularity().fit(data).recommend([], k=k)
    with pytest.raises(ValueError, match="not fitted"):
        Random().score_items(data.users[:1])


def test_a_foreign_class_is_not_saved(data, tmp_path):
    """Better refused now than when somebody needs it back."""
    with pytest.raises(ValueError, match="class: got 'tests.test_recommenders.Fixed'"):
        Fixed([0.] * 16).fit(data).save(tmp_path / "a.model")
    with pytest.raises((ValueError, TypeError), match="rng"):
        Random(np.random.default_rng(0)).fit(data).save(tmp_path / "a.model")
    assert os.listdir(tmp_path) == []


def test_no_pickle_is_written_or_read(saved, data):
    with zipfile.ZipFile(saved) as file:
        assert all(not file.read(name).startswith(b"\x80") and b"'descr': '|O'" not in file.read(name) for name in file.namelist())
    np.savez(saved.with_name("b.npz"), header=np.array([{"class": "a pickle"}], dtype=object))
    with pytest.raises(ValueError, match="b.npz is not a whole saved model"):
        load_recommender(saved.with_name("b.npz"))


def test_a_failed_save_leaves_the_old_file_and_no_litter(saved, data, monkeypatch):
    old = saved.read_bytes()
    model = Random().fit(data)
    model.zzz_ = object()
    with pytest.raises(Exception):
        model.save(saved)
    del model.zzz_
    (saved.parent / "folder").mkdir()
    with pytest.raises(OSError):
        model.save(saved.parent / "folder")
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        model.save(saved)
    assert saved.read_bytes() == old and sorted(os.listdir(saved.parent)) == ["a.model", "folder"]


def test_a_saved_model_may_be_read_by_whom_the_umask_allows(saved):
    (saved.parent / "plain").write_bytes(b"")
    assert saved.stat().st_mode == (saved.parent / "plain").stat().st_mode


# Histories

class Rated(Fixed):
    """Scores what it is given as a history, which is the rating and not the like."""

    def history(self, train): return train.ratings()

    def score_history(self, H): return H.toarray()


def test_a_subclass_says_what_its_histories_are(data):
    model = Rated().fit(data)
    ratings = data.ratings()
    assert (model.X_ != ratings).nnz == 0 and np.array_equal(model.score_items(data.users), ratings.toarray())
    assert (Popularity().fit(data).X_ != data.likes()).nnz == 0


@pytest.mark.parametrize("wrong", [None, "ratings.csv"])
def test_what_is_no_dataset_is_refused(wrong):
    with pytest.raises(TypeError, match=f"train: got {type(wrong).__name__}; give a Dataset"):
        Popularity().fit(wrong)


def test_a_dataset_with_unnamed_users_comes_back(data, tmp_path):
    unnamed = Dataset(data.interactions, data.items, pd.Index(data.users.to_list()))
    Popularity().fit(unnamed).save(tmp_path / "model.npz")
    pd.testing.assert_frame_equal(load_recommender(tmp_path / "model.npz").recommend(data.users[:3], k=4), Popularity().fit(data).recommend(data.users[:3], k=4))


def test_candidates_are_scored_as_all_items_are(data):
    model, codes = Popularity().fit(data), np.array([[3, 1, -1], [0, 5, 2]])
    found, everything = model.score_candidates(data.users[:2], codes), model.score_items(data.users[:2])
    assert np.isneginf(found[0, 2]) and np.array_equal(found[0, :2], everything[0, [3, 1]]) and np.array_equal(found[1], everything[1, [0, 5, 2]])


def test_a_column_that_cannot_be_saved_is_named(data, tmp_path):
    mixed = Dataset(data.interactions.assign(mood=pd.Series([1, "glad"] * len(data.interactions), dtype=object)[:len(data.interactions)]), data.items, data.users)
    with pytest.raises(ValueError, match="train: a column of its tables cannot be saved: .*mood.*drop it") as caught:
        Popularity().fit(mixed).save(tmp_path / "a.model")
    assert caught.value.__suppress_context__ and os.listdir(tmp_path) == []


@pytest.mark.parametrize("names", [str, int])
def test_users_without_a_name_of_either_kind_come_back(names, data, tmp_path):
    codes = {user: names(code) for code, user in enumerate(data.users)}
    users = pd.Index(list(codes.values()))
    renamed = Dataset(data.interactions.assign(user_id=data.interactions.user_id.map(codes).to_numpy()), data.items, users)
    Popularity().fit(renamed).save(tmp_path / "a.model")
    again = load_recommender(tmp_path / "a.model")
    pd.testing.assert_index_equal(again.train_.users, users.rename("user_id"))
    pd.testing.assert_frame_equal(again.recommend(users[:3], k=4), Popularity().fit(renamed).recommend(users[:3], k=4))
