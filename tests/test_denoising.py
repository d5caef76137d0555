"""Every step of denoising counts what it did, leaves its input alone and does nothing more the second time."""
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from llmrec.data import dataset
from llmrec.data.denoising import (drop_bursts, drop_flat_raters, fill_missing, interpolate_in_time,
    k_core, mark_impossible)

TABLE = pd.DataFrame({"user_id": [1, 1, 1, 2, 2, 3], "item_id": [1, 2, 3, 1, 2, 1], "rating": [5, None, 1, 2, None, None],
                      "timestamp": [0, 10, 40, 5, 9, 7]})
rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 40), st.integers(1, 2)), min_size=1, max_size=40)


def make_dataset(frame, items=None):
    """A data set whose likes are ratings of at least 4, whatever ratings there are."""
    return dataset.make_dataset(frame, items, 4 if "rating" in frame else None)


def to_dataset(rows):
    return make_dataset(pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "rating"]))


@pytest.mark.parametrize("how, by, filled, more", [
    ("mean", "user_id", [5, 3, 1, 2, 2, 8 / 3], 1), ("median", "user_id", [5, 3, 1, 2, 2, 2], 1),
    ("interpolate", "user_id", [5, 4, 1, 2, 2, 8 / 3], 1), ("mean", None, [5, 8 / 3, 1, 2, 8 / 3, 8 / 3], 0), ("median", None, [5, 2, 1, 2, 2, 2], 0),
])
def test_gaps_are_filled_and_counted(how, by, filled, more):
    before = TABLE.copy()
    result, notes = fill_missing(TABLE, "rating", how, by)
    np.testing.assert_allclose(result.rating, filled)
    assert notes[0].startswith("3 of 6 values of rating missing: filled") and len(notes) == 1 + more
    assert not more or notes[1].startswith("1 of these")
    pd.testing.assert_frame_equal(TABLE, before)
    again, nothing = fill_missing(result, "rating", how, by)
    pd.testing.assert_frame_equal(again, result)
    assert nothing == []
    labelled = fill_missing(TABLE.set_axis([7] * 6), "rating", how, by)[0]
    np.testing.assert_allclose(labelled.rating, filled, err_msg="labels do not matter")


def test_deleting_keeps_the_other_rows_as_they_are():
    result, notes = fill_missing(TABLE, "rating")
    pd.testing.assert_frame_equal(result, TABLE.loc[[0, 2, 3]])
    assert notes == ["3 of 6 values of rating missing: rows deleted"]
    assert fill_missing(TABLE[["rating"]], "rating")[1] == notes, "deleting needs no other column"
    assert make_dataset(result).n_users == 2


def test_interpolation_takes_the_nearest_outside_and_the_mean_of_one_time():
    nan = np.nan
    assert interpolate_in_time(np.array([nan, 2, 4, nan, 9, nan]), np.array([0, 1, 1, 2, 3, 9])).tolist() == [3, 2.5 + .5, 3, 6, 9, 9]
    assert np.isnan(interpolate_in_time(np.array([nan]), np.array([0]))).all()


@pytest.mark.parametrize("change, message", [
    (dict(how="guess"), "how: got 'guess'"), (dict(column="stars"), "no column 'stars'"), (dict(how="mean", by="club"), "no column 'club'"),
    (dict(frame=TABLE.assign(rating=np.nan)), "no value is known"), (dict(frame=TABLE.assign(rating=["x"] + [None] * 5), how="mean"), "hold no finite number"),
    (dict(frame=TABLE.drop(columns="timestamp"), how="interpolate"), "no column 'timestamp'"),
    (dict(frame=TABLE.assign(timestamp=np.nan), how="interpolate"), "hold no finite number"),
])
def test_faulty_calls_of_fill_missing_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        fill_missing(**(dict(frame=TABLE, column="rating") | change))


@pytest.mark.parametrize("how", ["delete", "mean", "median", "interpolate"])
@pytest.mark.parametrize("ratings", [["5", "one", None, "2", "1", "3"], ["5", "one", "4", "2", "1", "3"]], ids=["with a gap", "without"])
def test_text_is_refused_by_every_way_of_filling(how, ratings):
    with pytest.raises(ValueError, match="'rating': 1 of .*row 2: 'one'"):
        fill_missing(TABLE.assign(rating=ratings), "rating", how)


def test_numbers_written_as_text_are_taken():
    frame = TABLE.assign(rating=["5", None, "1", "2", None, "2"])
    assert fill_missing(frame, "rating", "mean")[0].rating.tolist() == [5, 3, 1, 2, 2, 2] and fill_missing(frame, "rating")[0].rating.tolist() == ["5", "1", "2", "2"]


def test_impossible_values_are_marked_and_counted():
    frame = pd.DataFrame({"rating": ["4", "0.5", "5", "5.1", "-1", "inf", "one", "", None]})
    before = frame.copy()
    marked, notes = mark_impossible(frame, "rating", .5, 5)
    assert marked.rating.dropna().tolist() == [4, .5, 5] and len(marked) == 9
    assert notes == ["5 of 9 values of rating are not from 0.5 to 5 (row 4: '5.1', row 5: '-1', row 6: 'inf'): marked as missing"]
    pd.testing.assert_frame_equal(frame, before)
    again, nothing = mark_impossible(marked, "rating", .5, 5)
    pd.testing.assert_frame_equal(again, marked)
    assert nothing == []
    with pytest.raises(ValueError, match="lowest, highest: got 5 and 0.5"):
        mark_impossible(frame, "rating", 5, .5)


def check_step(data, step, drop):
    """`step` drops exactly the interactions where `drop`, over the same users and items, and nothing the second time."""
    before = data.interactions.copy()
    result = step(data)
    pd.testing.assert_frame_equal(result.interactions, before[~drop])
    pd.testing.assert_frame_equal(data.interactions, before)
    assert result.users is data.users and result.items is data.items
    assert len(result.notes) == len(data.notes) + bool(drop.any()) and (not drop.any() or f"{drop.sum():,} interactions" in result.notes[-1])
    assert step(result).notes == result.notes and len(step(result).interactions) == len(result.interactions)


@settings(max_examples=150, deadline=None)
@given(rows, st.integers(2, 4))
def test_flat_raters_by_brute_force(rows, at_least):
    data = to_dataset(rows)
    given = {u: group.tolist() for u, group in data.interactions.groupby("user_id").rating}
    drop = data.interactions.user_id.map(lambda u: len(given[u]) >= at_least and len(set(given[u])) == 1)
    check_step(data, lambda d: drop_flat_raters(d, at_least), drop)


@settings(max_examples=150, deadline=None)
@given(rows, st.integers(1, 5), st.integers(1, 15))
def test_bursts_by_brute_force(rows, most, seconds):
    data = to_dataset(rows)
    pairs = list(zip(data.interactions.user_id, data.interactions.timestamp))
    windows = {(u, start): [t for v, t in pairs if v == u and start <= t < start + seconds] for u, start in pairs}
    bad = {(u, t) for (u, _), times in windows.items() if len(times) > most for t in times}
    check_step(data, lambda d: drop_bursts(d, most, seconds), pd.Series([pair in bad for pair in pairs]))


@settings(max_examples=200, deadline=None)
@given(rows, st.integers(1, 4), st.integers(1, 4))
def test_k_core_is_the_largest_set_in_which_all_have_enough(rows, k_user, k_item):
    data = to_dataset(rows)
    before = data.interactions.copy()
    pairs = set(zip(before.user_id, before.item_id))
    while True:  # take away one violator at a time, whichever comes first
        has = [(side, member, sum(pair[side] == member for pair in pairs)) for side in (0, 1) for member in {pair[side] for pair in pairs}]
        violator = next(((side, member) for side, member, n in has if n < (k_user, k_item)[side]), None)
        if violator is None:
            break
        pairs = {pair for pair in pairs if pair[violator[0]] != violator[1]}
    if not pairs:
        with pytest.raises(ValueError, match="nothing is left"):
            k_core(data, k_user, k_item)
        return
    core = k_core(data, k_user, k_item)
    assert set(zip(core.interactions.user_id, core.interactions.item_id)) == pairs
    assert set(core.users) == {u for u, _ in pairs} and set(core.items.item_id) == {i for _, i in pairs}
    assert core.ratings().shape == (core.n_users, core.n_items)
    lost = sum(pair not in pairs for pair in zip(before.user_id, before.item_id))
    assert core.notes == data.notes if not lost else f"{lost} interactions, {data.n_users - core.n_users} users" in core.notes[-1]
    assert k_core(core, k_user, k_item).notes == core.notes
    pd.testing.assert_frame_equal(data.interactions, before)


def test_k_core_drops_items_that_nobody_knows():
    data = make_dataset(TABLE.drop(columns="rating"), pd.DataFrame({"item_id": [1, 2, 3, 4], "title": list("abcd")}))
    core = k_core(data, 1, 1)
    assert core.items.title.tolist() == ["a", "b", "c"] and "0 interactions, 0 users and 1 items dropped" in core.notes[-1]


@pytest.mark.parametrize("call, message", [
    (lambda d: drop_flat_raters(d, 1), "at_least: got 1"), (lambda d: drop_bursts(d, 0), "most, seconds: got 0 and 60"), (lambda d: drop_bursts(d, 2.5), "got 2.5"),
    (lambda d: drop_bursts(d, 5, 0), "got 5 and 0"), (lambda d: k_core(d, 0), "k_user, k_item: got 0 and 5"), (lambda d: k_core(d, 9, 9), "nothing is left"),
    (lambda d: drop_flat_raters(make_dataset(d.interactions.drop(columns="rating"))), "no column 'rating'"),
    (lambda d: drop_bursts(make_dataset(d.interactions.drop(columns="timestamp")), 5), "no column 'timestamp'"),
])
def test_faulty_calls_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(to_dataset([(1, 1, 0, 1), (1, 2, 0, 2)]))


def test_movielens_has_no_flat_rater(movielens):
    assert drop_flat_raters(movielens).notes == movielens.notes
    core = k_core(movielens.take(movielens.interactions.rating >= 4), 10, 10)
    assert (core.n_users, core.n_items, len(core.interactions)) == (606, 1239, 38495)
