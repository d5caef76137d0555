"""The temporal protocol against an independent telling of it, and the promises that hold for any data."""
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from llmrec.data import make_dataset
from llmrec.splitting import temporal

PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def split(movielens):
    return temporal(movielens)


def pairs(data, liked=True):
    """The (user, item) pairs of the likes, or of the dislikes."""
    frame = data.interactions
    frame = frame[(frame.rating >= 4) == liked]
    return set(zip(frame.user_id, frame.item_id))


def by_the_letter(frame):
    """DESIGN.md, step by step in NumPy: the likes of each part as sets of (user, item)."""
    likes = frame[frame.rating >= 4]
    u, i, t = (likes[c].to_numpy() for c in ("user_id", "item_id", "timestamp"))
    many = np.isin(u, [user for user, n in zip(*np.unique(u, return_counts=True)) if n >= 5])
    u, i, t = u[many], i[many], t[many]
    order = np.lexsort((i, u))
    order = order[np.lexsort((np.random.default_rng(0).permutation(len(u)), t[order], u[order]))]
    parts = {part: set() for part in PARTS}
    for user in np.unique(u):
        items = i[order][u[order] == user].tolist()
        n_test, n_validation = max(1, len(items) // 5), max(1, len(items) // 10)
        for part, some in zip(PARTS, np.split(np.array(items), [-n_test - n_validation, -n_test])):
            parts[part] |= {(user, item) for item in some.tolist()}
    return parts


def test_figures(split):
    assert split.name == "temporal" and split.hash == "f4da5ba1c9ad5a63"
    assert [getattr(split, part).matrix().nnz for part in PARTS] == [36_598, 4_889, 10_048]
    assert split.fit.matrix().nnz == 36_598 + 4_889
    assert {getattr(split, part).matrix().shape for part in (*PARTS, "fit")} == {(659, 9066)}
    assert split.candidates.tolist() == list(range(9066))


def test_parts_are_those_of_the_design(split, movielens):
    expected = by_the_letter(movielens.interactions)
    assert {part: pairs(getattr(split, part)) for part in PARTS} == expected
    assert pairs(split.fit) == expected["train"] | expected["validation"]


def test_everybody_is_tested_and_ties_are_common(split):
    first, last = (getattr(data.interactions.query("rating >= 4").groupby("user_id").timestamp, how)()
                   for data, how in ((split.test, "min"), (split.fit, "max")))
    assert first.index.equals(split.test.users) and last.index.equals(split.test.users)
    assert (last <= first).all() and (last == first).sum() == 107


histories = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 25), st.sampled_from([1, 3.5, 4, 5]), st.integers(0, 6)), min_size=1,
                     max_size=80, unique_by=lambda row: row[:2])


@settings(max_examples=60, deadline=None)
@given(histories, st.randoms(use_true_random=False))
def test_promises_on_any_data(rows, random):
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    n_likes = frame.query("rating >= 4").groupby("user_id").size()
    kept = n_likes.index[n_likes >= 5]
    data = make_dataset(frame, pd.DataFrame({"item_id": range(1, 31)}))
    if not len(kept):
        with pytest.raises(ValueError, match="data: no user has 5 likes"):
            temporal(data)
        return
    split = temporal(data)
    likes = {part: pairs(getattr(split, part)) for part in PARTS}
    assert likes == by_the_letter(frame)
    assert sum(map(len, likes.values())) == n_likes[kept].sum(), "every like of a kept user is in exactly one part"
    assert set.union(*likes.values()) == {(u, i) for u, i, r, _ in rows if u in kept and r >= 4}
    assert split.train.users.tolist() == kept.tolist() and split.train.item_ids.tolist() == sorted(set(frame.item_id))
    when = {(u, i): t for u, i, _, t in rows}
    held_out = likes["validation"] | likes["test"]
    for user in kept:
        times = [[when[pair] for pair in likes[part] if pair[0] == user] for part in PARTS]
        assert max(times[0]) <= min(times[1]) and max(times[1]) <= min(times[2])
    first = {user: min(when[pair] for pair in held_out if pair[0] == user) for user in kept}
    assert pairs(split.train, liked=False) == {(u, i) for u, i, r, t in rows if r < 4 and u in kept and t <= first[u]}
    assert pairs(split.fit, liked=False) == pairs(split.train, liked=False)
    assert pairs(split.validation, liked=False) == pairs(split.test, liked=False) == set()
    random.shuffle(rows)
    again = temporal(make_dataset(pd.DataFrame(rows, columns=frame.columns), data.items))
    assert again.hash == split.hash and all(pairs(getattr(again, part)) == likes[part] for part in PARTS)


def test_without_ratings_everything_is_a_like(movielens):
    frame = movielens.interactions.query("rating >= 4")
    unrated, rated = (temporal(make_dataset(data)) for data in (frame.drop(columns="rating"), frame))
    assert unrated.hash == rated.hash and unrated.test.matrix().nnz == 10_048


def test_the_input_stays(movielens):
    before = movielens.interactions.copy()
    temporal(movielens)
    pd.testing.assert_frame_equal(movielens.interactions, before)


@pytest.mark.parametrize("change", [
    lambda split: replace(split, name="other"), lambda split: replace(split, train=split.test, test=split.train),
    lambda split: replace(split, test=split.test.take(np.arange(10_047))), lambda split: replace(split, validation=split.validation.take([])),
    lambda split: replace(split, train=split.train.take(split.train.interactions.rating.to_numpy() >= 4)),
    lambda split: replace(split, train=split.fit, validation=split.validation.take([])),
], ids=["name", "parts exchanged", "one like less", "no validation", "no dislikes", "a part moved"])
def test_the_hash_follows_every_change(split, change):
    assert replace(split).hash == split.hash != change(split).hash


def test_faulty_data_is_refused(movielens):
    with pytest.raises(ValueError, match="data: .*'timestamp'"):
        temporal(make_dataset(movielens.interactions[["user_id", "item_id"]]))
