"""The five protocols against an independent telling of them, and the promises that hold for any data."""
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from llmrec.data.dataset import Dataset, make_dataset
from llmrec.evaluation.splitting import PROTOCOLS, global_time, item_cold, random as random_split, temporal

PARTS = ("train", "validation", "test")


FIGURES = {
    "temporal": (36_598, 4_889, 10_048, "2c455b560ce3f010"), "leave_one_out": (50_217, 659, 659, "bb53c0f975653168"),
    "global_time": (41_228, 5_153, 5_154, "f33bc3cb2b99f0d8"), "item_cold": (33_242, 8_251, 10_042, "d56b22aacd63170c"),
    "random": (41_757, 4_889, 4_889, "d06749798933207a"),
}


def draw(name, data):
    """The split by that protocol, without its warning that few users remain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PROTOCOLS[name](data)


@pytest.fixture(scope="module")
def splits(movielens):
    return {name: draw(name, movielens) for name in FIGURES}


@pytest.fixture(scope="module")
def split(splits):
    return splits["temporal"]


def pairs(data, liked=True):
    """The (user, item) pairs of the likes, or of the dislikes."""
    frame = data.interactions
    frame = frame[(frame.rating >= 4) == liked]
    return set(zip(frame.user_id, frame.item_id))


def by_the_letter(frame, name):
    """DESIGN.md, step by step in NumPy: the likes of each part as sets of (user, item), and the item ids held out for validation and test."""
    likes = frame[frame.rating >= 4]
    u, i, t = (likes[c].to_numpy() for c in ("user_id", "item_id", "timestamp"))
    many = np.isin(u, [user for user, n in zip(*np.unique(u, return_counts=True)) if n >= 5])
    u, i, t = u[many], i[many], t[many]
    order = np.lexsort((i, u))
    order = order[np.lexsort((np.random.default_rng(0).permutation(len(u)), t[order], u[order]))]
    u, i, t = u[order], i[order], t[order]
    items = np.unique(frame.item_id)
    cold = items[np.random.default_rng(0).permutation(len(items))[:len(items) // 5]]
    rest = np.setdiff1d(items, cold)
    cold_validation = rest[np.random.default_rng(1).permutation(len(rest))[:len(rest) // 5]]
    held_out = (cold_validation, cold) if name == "item_cold" else ([], [])
    if name == "global_time":
        part = (t > np.quantile(t, .8)).astype(int) + (t > np.quantile(t, .9))
    elif name == "item_cold":
        part = np.where(np.isin(i, cold), 2, np.where(np.isin(i, cold_validation), 1, 0))
    else:
        if name == "random":
            order = np.random.default_rng(0).permutation(len(u))
            u, i = u[order], i[order]
        part = np.zeros(len(u), int)
        for user in np.unique(u):
            rows = np.flatnonzero(u == user)
            n_test, n_validation = {"temporal": (len(rows) // 5, len(rows) // 10), "leave_one_out": (1, 1),
                                    "random": (len(rows) // 10, len(rows) // 10)}[name]
            n_test, n_validation = max(1, n_test), max(1, n_validation)
            part[rows[-n_test:]], part[rows[-n_test - n_validation:-n_test]] = 2, 1
    return {label: set(zip(u[part == n].tolist(), i[part == n].tolist())) for n, label in enumerate(PARTS)}, held_out


@pytest.mark.parametrize("name", FIGURES)
def test_figures(splits, name):
    split = splits[name]
    assert (*(getattr(split, part).likes().nnz for part in PARTS), split.hash) == FIGURES[name] and split.name == name
    assert split.fit.likes().nnz == split.train.likes().nnz + split.validation.likes().nnz
    assert {getattr(split, part).likes().shape for part in (*PARTS, "fit")} == {(659, 9066)}


@pytest.mark.parametrize("name", FIGURES)
def test_parts_are_those_of_the_design(splits, movielens, name):
    split, (expected, held_out) = splits[name], by_the_letter(movielens.interactions, name)
    assert {part: pairs(getattr(split, part)) for part in PARTS} == expected
    assert pairs(split.fit) == expected["train"] | expected["validation"]
    for codes, items in zip((split.validation_candidates, split.candidates), held_out):
        assert codes.tolist() == (split.train.item_codes(np.sort(items)).tolist() if len(items) else list(range(9066)))


def test_nothing_of_a_held_out_film_is_left(splits):
    split = splits["item_cold"]
    assert (len(split.candidates), len(split.validation_candidates)) == (1813, 1450)
    for part, new in ((split.fit, split.candidates), (split.train, np.r_[split.candidates, split.validation_candidates])):
        assert not part.interactions.item_id.isin(part.item_ids[new]).any()
    assert set(split.test.item_codes(split.test.interactions.item_id)) <= set(split.candidates)


def test_global_time_knows_nothing_from_after_the_cut_and_warns(movielens):
    with pytest.warns(UserWarning, match="20 of 81 test users"):
        split = global_time(movielens)
    last, first = split.train.interactions.timestamp.max(), split.validation.interactions.timestamp.min()
    assert last < first <= split.validation.interactions.timestamp.max() < split.test.interactions.timestamp.min()
    only_before = ~split.train.users.isin(pd.concat([split.validation.interactions, split.test.interactions]).user_id)
    some = split.train.users[only_before]
    cut = np.quantile(movielens.interactions.query("rating >= 4").timestamp, .8)
    dislikes = movielens.interactions.query("rating < 4 and user_id in @some and timestamp < @cut - 10**7")
    assert len(dislikes) > 20_000 and set(zip(dislikes.user_id, dislikes.item_id)) <= pairs(split.train, liked=False)


def test_global_time_is_silent_where_enough_people_stay(recwarn):
    frame = pd.DataFrame([(u, i, i) for u in range(100) for i in range(20)], columns=["user_id", "item_id", "timestamp"])
    assert global_time(make_dataset(frame)).test.likes().nnz > 0 and not recwarn.list


def test_random_draws_by_rng(movielens, splits):
    other, same, drawn = (random_split(movielens, rng) for rng in (1, 0, np.random.default_rng(0)))
    assert other.hash != splits["random"].hash == same.hash == drawn.hash
    assert other.test.likes().nnz == same.test.likes().nnz


def test_too_few_items_to_hold_out():
    frame = pd.DataFrame([(u, i, i) for u in range(3) for i in range(5)], columns=["user_id", "item_id", "timestamp"])
    with pytest.raises(ValueError, match="item_cold leaves no like for validation"):
        item_cold(make_dataset(frame))
    with pytest.raises(ValueError, match="global_time leaves no like for validation and test"):
        global_time(make_dataset(frame.assign(timestamp=1)))


def test_everybody_is_tested_and_ties_are_common(split):
    first, last = (getattr(data.interactions.query("rating >= 4").groupby("user_id").timestamp, how)()
                   for data, how in ((split.test, "min"), (split.fit, "max")))
    assert first.index.equals(split.test.users) and last.index.equals(split.test.users)
    assert (last <= first).all() and (last == first).sum() == 107


history = st.lists(st.tuples(st.integers(1, 25), st.sampled_from([4, 5, 4.5, 3.5, 1]), st.sampled_from(range(9))), min_size=6, max_size=20,
                   unique_by=lambda row: row[0])
histories = st.lists(history, min_size=1, max_size=6).map(lambda users: [(u, *row) for u, rows in enumerate(users, 1) for row in rows])


@pytest.mark.parametrize("name", FIGURES)
@settings(max_examples=60, deadline=None)
@given(rows=histories, random=st.randoms(use_true_random=False))
def test_promises_on_any_data(name, rows, random):
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    n_likes = frame.query("rating >= 4").groupby("user_id").size()
    kept = n_likes.index[n_likes >= 5]
    data = make_dataset(frame, pd.DataFrame({"item_id": range(1, 31)}), like_from=4)
    expected, held_out = by_the_letter(frame, name) if len(kept) else ({}, None)
    if not expected or not all(expected.values()):
        with pytest.raises(ValueError, match="data: no user has 5 likes|data: .* leaves no like for"):
            draw(name, data)
        return
    split = draw(name, data)
    likes = {part: pairs(getattr(split, part)) for part in PARTS}
    assert likes == expected and pairs(split.fit) == likes["train"] | likes["validation"]
    assert sum(map(len, likes.values())) == n_likes[kept].sum(), "every like of a kept user is in exactly one part"
    assert set.union(*likes.values()) == {(u, i) for u, i, r, _ in rows if u in kept and r >= 4}
    assert split.train.users.tolist() == kept.tolist() and split.train.item_ids.tolist() == sorted(set(frame.item_id))
    when = {(u, i): t for u, i, _, t in rows}
    if name not in ("item_cold", "random"):
        for user in kept:
            times = [[when[pair] for pair in likes[part] if pair[0] == user] for part in PARTS]
            times = [part for part in times if part]
            assert all(max(before) <= min(after) for before, after in zip(times, times[1:]))
    first = {user: min((when[pair] for pair in likes["validation"] | likes["test"] if pair[0] == user), default=np.inf) for user in kept}
    if name == "global_time":
        cut = np.quantile([when[pair] for pair in set.union(*likes.values())], .8)
        first = {user: min(t, cut) for user, t in first.items()}
    hidden = {*held_out[0], *held_out[1]}
    assert pairs(split.train, liked=False) == {(u, i) for u, i, r, t in rows if r < 4 and u in kept and t <= first[u] and i not in hidden}
    assert pairs(split.fit, liked=False) == pairs(split.train, liked=False)
    assert pairs(split.validation, liked=False) == pairs(split.test, liked=False) == set()
    random.shuffle(rows)
    again = draw(name, make_dataset(pd.DataFrame(rows, columns=frame.columns), data.items, like_from=4))
    assert again.hash == split.hash and all(pairs(getattr(again, part)) == likes[part] for part in PARTS)


@pytest.mark.parametrize("name", FIGURES)
def test_without_ratings_everything_is_a_like(movielens, name):
    frame = movielens.interactions.query("rating >= 4")
    unrated, rated = (draw(name, make_dataset(data)) for data in (frame.drop(columns="rating"), frame))
    assert all((getattr(unrated, part).likes() != getattr(rated, part).likes()).nnz == 0 for part in PARTS)
    assert sum(getattr(unrated, part).likes().nnz for part in PARTS) == 51_535


def test_the_input_stays(movielens):
    before = movielens.interactions.copy()
    temporal(movielens)
    pd.testing.assert_frame_equal(movielens.interactions, before)


def changed(part, **values):
    """The part with another value in its first row."""
    rows = part.interactions.copy()
    for column, value in values.items():
        rows.loc[rows.index[0], column] = value
    return Dataset(rows, part.items, part.users)


def more_items(part):
    """The part over a catalogue with one film more."""
    return Dataset(part.interactions, pd.concat([part.items, part.items.tail(1).assign(item_id=10**6)]), part.users)


@pytest.mark.parametrize("change", [
    lambda split: replace(split, name="other"), lambda split: replace(split, train=split.test, test=split.train),
    lambda split: replace(split, test=split.test.take(np.arange(10_047))), lambda split: replace(split, validation=split.validation.take([])),
    lambda split: replace(split, train=split.train.take(split.train.interactions.rating.to_numpy() >= 4)),
    lambda split: replace(split, train=split.fit, validation=split.validation.take([])),
    lambda split: replace(split, fit=split.train), lambda split: replace(split, train=changed(split.train, rating=1.5)),
    lambda split: replace(split, test=changed(split.test, timestamp=1)), lambda split: replace(split, train=more_items(split.train)),
    lambda split: replace(split, candidates=split.candidates[1:]), lambda split: replace(split, validation_candidates=split.candidates[1:]),
], ids=["name", "parts exchanged", "one like less", "no validation", "no dislikes", "a part moved", "another fit", "another rating", "another time", "another catalogue", "a candidate less", "a validation candidate less"])
def test_the_hash_follows_every_change(split, change):
    assert replace(split).hash == split.hash != change(split).hash


@pytest.mark.parametrize("protocol", PROTOCOLS.values())
def test_faulty_data_is_refused(movielens, protocol):
    with pytest.raises(ValueError, match="data: .*'timestamp'"):
        protocol(make_dataset(movielens.interactions[["user_id", "item_id"]]))


def test_the_hash_is_of_arrays_and_not_of_a_written_file(movielens, monkeypatch):
    monkeypatch.setattr(pd.DataFrame, "to_csv", lambda *args, **kwargs: pytest.fail("a table was written to hash it"))
    assert draw("temporal", movielens).hash == FIGURES["temporal"][3]
