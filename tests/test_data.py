"""Whatever a table holds is refused by name, mended with a count, or kept as it is; nothing else may happen to it."""
import csv
import os
import re
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from llmrec.data.movielens import RELEASES, load_movielens, load_tags, movielens_path, read_movielens, split_year
from llmrec.data.dataset import Dataset, load_interactions, make_dataset


@pytest.fixture
def load(tmp_path):
    """Loads what is written: `load(text or bytes, items=None, **more)`."""
    def load(text, items=None, **more):
        paths = []
        for name, content in (("ratings.csv", text), ("items.csv", items)):
            if content is not None:
                paths.append(tmp_path / name)
                paths[-1].write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_interactions(*paths, **more)
    return load


def refusal(call):
    """The message of a refusal, which is ours, one line of sensible length, and shows no error from below."""
    with pytest.raises(Exception) as caught:
        call()
    error = caught.value
    assert type(error) in (ValueError, TypeError, FileNotFoundError), repr(error)
    assert error.__suppress_context__ or error.__context__ is None
    assert "\n" not in str(error) and len(str(error)) < 1000
    return str(error)


def table(**columns):
    """Two interactions, with these columns instead of or beside the usual ones."""
    return pd.DataFrame({"user_id": [1, 2], "item_id": [3, 4], **columns})


# Refused

REFUSED = {
    "no user_id": ("item_id,rating\n1,2\n", "'user_id'", "item_id, rating"),
    "no item_id": ("user_id,rating\n1,2\n", "'item_id'"),
    "other separator": ("user_id;item_id\n1;2\n", "'user_id'", "user_id;item_id"),
    "text in rating": ("user_id,item_id,rating\n1,2,3\n1,3,good\n1,4,5\n1,5,bad\n", "'rating'", "2 of 4", "row 2: 'good'", "row 4: 'bad'"),
    "no rating": ("user_id,item_id,rating\n1,2,3\n1,3,\n", "'rating'", "row 2"),
    "decimal comma": ('user_id,item_id,rating\n1,2,"3,5"\n', "'rating'", "row 1: '3,5'"),
    "infinite rating": ("user_id,item_id,rating\n1,2,-inf\n", "'rating'", "row 1: '-inf'"),
    "NaN timestamp": ("user_id,item_id,timestamp\n1,2,nan\n", "'timestamp'", "row 1: 'nan'"),
    "infinite timestamp": ("user_id,item_id,timestamp\n1,2,3\n1,3,inf\n", "'timestamp'", "row 2: 'inf'"),
    "negative timestamp": ("user_id,item_id,timestamp\n1,2,3\n1,3,-5\n", "'timestamp'", "row 2: '-5'", "below 0"),
    "date as timestamp": ("user_id,item_id,timestamp\n1,2,2020-01-01\n", "'timestamp'", "row 1: '2020-01-01'", "seconds since 1970"),
    "row too short": ("user_id,item_id,event\n1,2,seen\n1,3\n", "ratings.csv", "line 3 has 2 cells"),
    "line break in an id": ('user_id,item_id\n1,"2\n3"\n', "'item_id'", "line breaks"),
    "empty id": ("user_id,item_id\n1,2\n,3\n", "'user_id'", "row 2"),
    "blank id": ("user_id,item_id\n1,2\n2,  \n", "'item_id'", "row 2"),
    "mixed ids": ("user_id,item_id\n1,2\n2,3\nann,3\n", "'user_id'", "row 3: 'ann'"),
    "column twice": ("user_id,item_id,rating,rating\n1,2,3,4\n", "rating", "twice"),
    "column twice after an empty line": ("\nuser_id,item_id,item_id\n1,2,3\n", "item_id", "twice"),
    "header only": ("user_id,item_id\n", "no rows"),
    "empty file": ("", "ratings.csv"),
    "empty lines only": ("\n\n\n", "ratings.csv"),
    "UTF-16": ("user_id,item_id\n1,2\n".encode("utf-16"), "ratings.csv", "UTF-8"),
    "binary": (bytes(range(256)) * 9, "ratings.csv", "UTF-8"),
    "binary without NUL": (bytes(range(128, 256)) * 99 + b"\n1", "'user_id'"),
    "first row too long": ("user_id,item_id\n1,2,3\n", "ratings.csv"),
    "all rows too long": ("user_id,item_id\n1,2,3,4\n1,3,3,4\n", "ratings.csv"),
    "a later row too long": ("user_id,item_id\n1,2\n1,2,3\n", "ratings.csv", "line 3"),
    "open quote": ('user_id,item_id,title\n1,2,"abc\n1,3,d\n', "ratings.csv"),
    "open quote in the header": ('user_id,"item_id,title\n1,2,abc\n1,3,d\n', "ratings.csv"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_faulty_csv_is_refused(name, load):
    text, *parts = REFUSED[name]
    message = refusal(lambda: load(text))
    assert [part for part in parts if part not in message] == [], message


@pytest.mark.parametrize("items, parts", [
    ("title\na\n", ["items", "'item_id'"]), ("item_id,title\n", ["items", "no rows"]), ("", ["items.csv"]),
    ("item_id,title\n2,a\n3,b\n2,c\n", ["'item_id'", "row 3: '2'"]),
    ("item_id,title\nx,a\ny,b\n", ["'item_id'", "int64 in interactions", "str in items"]),
    ("item_id,title\n02,a\n03,b\n", ["'item_id'"]),
    ("item_id,year\n2,1990\n3,MCMXC\n", ["'year'", "row 2: 'MCMXC'"]), ("item_id,year\n2,1990.5\n", ["'year'", "row 1: '1990.5'"]),
])
def test_faulty_items_are_refused(items, parts, load):
    message = refusal(lambda: load("user_id,item_id\n1,2\n1,3\n", items))
    assert [part for part in parts if part not in message] == [], message


@pytest.mark.parametrize("columns, parts", [
    (dict(rating=[1, np.nan]), ["'rating'", "row 2"]), (dict(rating=["5", "good"]), ["'rating'", "row 2: 'good'"]),
    (dict(rating=pd.array([None, 1], "Int64")), ["'rating'", "row 1"]), (dict(timestamp=[np.inf, 1]), ["'timestamp'", "row 1"]),
    (dict(timestamp=[5, -1]), ["'timestamp'", "row 2: '-1'"]), (dict(user_id=[1, np.nan]), ["'user_id'", "row 2"]),
    (dict(item_id=[None, "a"]), ["'item_id'", "row 1"]), (dict(user_id=pd.Series([1, "ann"], dtype=object)), ["'user_id'", "mixed"]),
    (dict(user_id=pd.Series([1, "1"], dtype=object)), ["'user_id'"]), (dict(year=[1990, np.inf]), ["'year'", "row 2"]),
    (dict(timestamp=pd.to_datetime(["2020-01-01", None])), ["'timestamp'"]),
])
def test_a_faulty_frame_is_refused(columns, parts):
    message = refusal(lambda: make_dataset(table(**columns)))
    assert [part for part in parts if part not in message] == [], message


@pytest.mark.parametrize("cells, part", [
    ([["Ran", "Chaos"], None], "row 1: \"['Ran', 'Chaos']\""), ([None, {"en": "Ran"}], "row 2: \"{'en': 'Ran'}\""), ([b"Ran", None], "row 1: \"b'Ran'\""), ([[1952], None], "row 1: '[1952]'"),
    ([[], "x"], "row 1: '[]'"), ([[["Ran"]], None], "row 1"), ([{"Ran"}, None], "row 1"),
])
@pytest.mark.parametrize("column", ["title", "genres", "year", "description"])
def test_cells_that_hold_lists_records_or_bytes_are_refused(column, cells, part, tmp_path):
    if column == "genres" and (cells[0] == [] or isinstance(cells[0], list) and isinstance(cells[0][0], str)):
        return
    frame = table().assign(**{column: pd.Series(cells, dtype=object)})
    messages = [refusal(lambda: make_dataset(frame)), refusal(lambda: make_dataset(table(), frame.drop(columns="user_id").replace({"item_id": {9: 3}})))]
    if not isinstance(cells[0], set) and cells[1] != "x":
        frame.to_parquet(tmp_path / "a.parquet")
        messages += [refusal(lambda: load_interactions(tmp_path / "a.parquet")), refusal(lambda: make_dataset(pd.read_parquet(tmp_path / "a.parquet", dtype_backend="pyarrow")))]
    for message in messages:
        assert message.startswith(f"column {column!r}: 1 of 2 rows hold lists, records or bytes"), message
    assert part in messages[0]


@pytest.mark.parametrize("column", ["user_id", "item_id", "event"])
def test_ids_and_events_that_are_lists_are_refused(column):
    assert f"column {column!r}: 1 of 2 rows hold lists" in refusal(lambda: make_dataset(table(**{column: pd.Series(["a", ["b"]], dtype=object)})))


@pytest.mark.parametrize("backend", ["numpy_nullable", "pyarrow"])
def test_genres_may_be_lists_of_texts(backend, tmp_path):
    genres = pd.Series([["Drama", "War"], []], dtype=object)
    assert make_dataset(table(genres=genres)).items.genres.tolist() == ["Drama|War", ""]
    assert make_dataset(table(), pd.DataFrame({"item_id": [3, 4, 5], "genres": [("Drama",), np.array(["War", "Drama"]), None]})).items.genres.tolist() == ["Drama", "War|Drama", ""]
    table(genres=genres, mood=pd.Series([{"good": True}, None], dtype=object)).to_parquet(tmp_path / "a.parquet")
    data = load_interactions(tmp_path / "a.parquet")
    assert data.items.genres.tolist() == ["Drama|War", ""] and count(data, "without genres") == 1 and count(data, "not used: 'mood'") == 1
    assert make_dataset(pd.read_parquet(tmp_path / "a.parquet", dtype_backend=backend)).items.genres.tolist() == ["Drama|War", ""]
    assert "column 'genres': 1 of 2 rows hold lists" in refusal(lambda: make_dataset(table(genres=pd.Series([["Drama", None], "War"], dtype=object))))


def test_loaders_refuse_what_exceeds_the_limits(load, tmp_path):
    text, small = "user_id,item_id\n1,2\n1,3\n1,4\n", dict(max_rows=3)
    assert "max_rows: " in refusal(lambda: load(text, **small)) and load(text, max_rows=4).n_items == 3
    assert "items.csv holds at least 4 rows" in refusal(lambda: load("user_id,item_id\n1,2\n", "item_id\n2\n3\n4\n", **small))
    many = "userId,movieId,rating,timestamp\n" + "1,20,5,9\n" * 3
    for as_zip in (False, True):
        path = publish(tmp_path, "25m", as_zip, ratings_csv=many)
        assert "ratings.csv holds at least 4 rows, more than 3; if you trust it, raise max_rows" in refusal(lambda: load_movielens("25m", path, **small))
    (tmp_path / "tags.csv").write_text("userId,movieId,tag,timestamp\n" + "2,20,x,9\n" * 3)
    assert "tags.csv holds at least 4 rows" in refusal(lambda: load_tags(tmp_path, **small))
    for call in (load_interactions, lambda path, **limits: load_movielens("25m", path, **limits), load_tags):
        for name, part in (("max_bytes", "holds at least"), ("max_ratio", "got 0"), ("max_rows", "got -1")):
            value = {"got 0": 0, "got -1": -1}.get(part, 1)
            path = tmp_path / "ratings.csv" if call is load_interactions else tmp_path if call is load_tags else tmp_path / "ml"
            message = refusal(lambda: call(path, **{name: value}))
            assert message.startswith(f"{name}: ") and part in message, message


def test_what_is_no_table_is_refused():
    assert "interactions" in refusal(lambda: make_dataset([(1, 2)]))
    assert "items" in refusal(lambda: make_dataset(table(), "items.csv"))
    assert "no rows" in refusal(lambda: make_dataset(table()[:0]))


def test_dates_are_never_taken_for_seconds():
    """pandas keeps dates as microseconds; they are refused or become seconds, and what they are not is 1.5e15."""
    dates = table(timestamp=pd.to_datetime(["2020-01-01", "2021-01-01"]))
    try:
        data = make_dataset(dates)
    except (ValueError, TypeError) as error:
        assert "'timestamp'" in str(error)
    else:
        assert data.interactions.timestamp.tolist() == [1577836800, 1609459200]


def test_a_faulty_file_is_refused(tmp_path):
    for name, content in (("a.txt", b"user_id,item_id\n1,2\n"), ("a.parquet", b"PAR1 and no more"), ("b.parquet", b"")):
        (tmp_path / name).write_bytes(content)
        assert name in refusal(lambda: load_interactions(tmp_path / name))
    whole = tmp_path / "c.parquet"
    table().to_parquet(whole)
    whole.write_bytes(whole.read_bytes()[:-20])
    assert "c.parquet" in refusal(lambda: load_interactions(whole))
    for call in (lambda: load_interactions(tmp_path / "nowhere.csv"), lambda: load_interactions(tmp_path)):
        with pytest.raises(FileNotFoundError, match=str(tmp_path)):
            call()


@pytest.mark.parametrize("columns, parts", [
    ({"user_id": "who"}, ["columns", "'user_id'", "who, item_id", "{'their name': 'our name'}"]),
    ({"whom": "user_id"}, ["columns", "'whom'"]), ({"who": "item_id"}, ["item_id", "twice"]),
])
def test_faulty_columns_are_refused(columns, parts, load):
    message = refusal(lambda: load("who,item_id\n1,2\n", columns=columns))
    assert [part for part in parts if part not in message] == [], message


def test_a_strange_pickle_is_not_opened(tmp_path):
    (tmp_path / "movielens").write_bytes(movielens_path().read_bytes() + b"\0")
    assert "not opened" in refusal(lambda: read_movielens(tmp_path / "movielens"))


# Mended, with a count

def count(data, words):
    """The count of the one note that has these words; 0 without such a note."""
    found = [int(note.split()[0].replace(",", "")) for note in data.notes if words in note]
    assert len(found) <= 1, data.notes
    return sum(found)


def test_all_of_repeated_rows_are_kept_and_the_latest_rating_counts(load):
    header = "user_id,item_id,rating"
    data = load(header + ",timestamp\n1,2,5,30\n1,2,4,10\n2,2,1,10\n1,2,3,20\n")
    assert count(data, "repeat a user and an item: all kept, the latest rating counts") == 2
    assert data.interactions.rating.tolist() == [5, 4, 1, 3] and data.ratings().toarray().tolist() == [[5], [1]] and data.like_rows().timestamp.tolist() == [30]
    data = load(header + "\n1,2,5\n1,2,4\n2,2,1\n1,2,3\n")
    assert count(data, "repeat a user and an item") == 2 and data.ratings().toarray().tolist() == [[3], [1]] and data.likes().nnz == 0 == len(data.like_rows())


def test_items_are_mended_and_counted(load):
    data = load("user_id,item_id\n1,1\n1,2\n1,3\n1,4\n1,5\n",
                "item_id,title,year,genres\n5, Five ,1995,Drama\n1,,1991,\n2,Two,,A|B\n3,  ,,\n")
    assert data.items.title.tolist() == ["", "Two", "", "", "Five"] and data.item_ids.tolist() == [1, 2, 3, 4, 5]
    assert data.items.year.isna().tolist() == [False, True, True, True, False] and data.items.year.dtype == "Int64"
    assert data.items.genres.tolist() == ["", "A|B", "", "", "Drama"]
    assert (count(data, "spaces around their title"), count(data, "not in the items table"), count(data, "without year")) == (2, 1, 2)
    assert count(data, "without title") == 2, "the one that the table lacks is counted by itself"


def test_ids_with_spaces_are_trimmed_and_counted(load):
    data = load("user_id,item_id\n ann,1\nann ,2\nbo,1\n")
    assert data.users.tolist() == ["ann", "bo"] and count(data, "spaces around their user_id") == 2


@pytest.mark.parametrize("dtype", [object, "str", "string", "category"])
@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_ids_that_become_one_by_trimming_are_counted_whatever_their_type(column, dtype):
    ids = pd.Series(["x", " x", "x\u3000", "y", "y "], dtype=dtype)
    data = make_dataset(pd.DataFrame({"user_id": range(5), "item_id": range(5)}).assign(**{column: ids}))
    assert data.notes == (f"3 rows with spaces around their {column}: trimmed, 3 ids are the same as another now",)
    alone = make_dataset(pd.DataFrame({"user_id": range(2), "item_id": range(2)}).assign(**{column: pd.Series(["x", " y"], dtype=dtype)}))
    assert alone.notes == (f"1 rows with spaces around their {column}: trimmed",)


def test_item_ids_with_spaces_in_the_items_table_are_counted():
    assert count(make_dataset(table(item_id=["a", "b"]), pd.DataFrame({"item_id": ["a ", "b"]})), "spaces around their item_id") == 1


def test_text_ids_of_a_file_are_those_of_a_frame(load):
    rows = [("zoë", "b-2"), ("bo", "a-1 "), ("zoë", "a-1"), (" bo", "b-2")]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id"], dtype="str")
    ours, theirs = load(frame.to_csv(index=False)), make_dataset(frame)
    assert ours.notes == theirs.notes and len(ours.notes) == 2 and ours.users.tolist() == ["bo", "zoë"]
    pd.testing.assert_frame_equal(ours.interactions, theirs.interactions)
    pd.testing.assert_frame_equal(ours.items, theirs.items)
    message = refusal(lambda: load("user_id,item_id\nann,1\n12,2\nann,3\n"))
    assert "1 of 3 rows are of another kind" in message and "row 2: '12'" in message
    assert "1 of 3 rows hold no id (row 3" in refusal(lambda: load("user_id,item_id\nann,1\nann,2\n,3\n"))


def test_items_that_are_described_in_several_ways_are_counted(load):
    data = load("user_id,item_id,title\n1,7,Ikiru\n2,7,To Live\n3,8,Ran\n4,8,Ran\n5,9, \n6,9,Dodesukaden\n7,9,Dodes'ka-den\n")
    assert data.items.title.tolist() == ["Ikiru", "Ran", "Dodesukaden"], "the first that has a title"
    assert count(data, "several ways") == 2, "items 7 and 9"
    assert "several ways: the first kept" in str(load("user_id,item_id,year\n1,7,1952\n2,7,1953\n"))


@pytest.mark.parametrize("titles, kept", [
    ([1984, None], ["1984", ""]), ([1984., 8.5], ["1984", "8.5"]), ([300, "Ran"], ["300", "Ran"]), (pd.array([1984, None], "Int64"), ["1984", ""]),
    (np.array([1917, 2012], "float32"), ["1917", "2012"]), ([float("inf"), None], ["inf", ""]), (pd.Categorical(["Ran", None]), ["Ran", ""]),
])
def test_titles_that_are_numbers_stay_as_they_are_written(titles, kept):
    assert make_dataset(table(title=titles)).items.title.tolist() == kept


def test_columns_that_are_not_used_are_noted_with_what_they_may_mean(load):
    data = load("user_id,item_id,Rating, Time Stamp,mood\n1,2,3,4,x\n", "item_id,genre,director\n2,Drama,Ozu\n")
    assert data.notes[:2] == ("3 columns of interactions are not used: 'Rating' (did you mean 'rating'? then rename it), ' Time Stamp' (did you mean 'timestamp'? then rename it), 'mood'",
                              "2 columns of items are read only where a template names them: 'genre' (did you mean 'genres'? then rename it), 'director'")
    assert load("user_id,item_id,rating,timestamp,event,title,genres,year,description\n1,2,5,4,seen,A,B,1999,C\n").notes == ()
    assert "did you mean" not in str(load("user_id,item_id,rating,Rating\n1,2,5,4\n"))


@pytest.mark.parametrize("ratings, noted", [([1, 3.5], True), ([1, 4], False), ([0, 1], True)])
def test_ratings_without_a_like_are_noted(ratings, noted):
    data = make_dataset(table(rating=ratings), like_from=4)
    assert [note for note in data.notes if note.startswith(f"0 likes: the highest rating is {max(ratings):g}")] == list(data.notes) and bool(data.notes) == noted
    assert (data.likes().nnz == 0) == noted


@pytest.mark.parametrize("timestamp", [1_700_000_000_000, 1_700_000_000_000_000, 1e11 + 1])
def test_milliseconds_are_refused(timestamp, tmp_path):
    message = refusal(lambda: make_dataset(table(timestamp=[5, timestamp])))
    assert "'timestamp'" in message and "row 2" in message and "divide milliseconds by 1,000" in message
    (tmp_path / "tags.csv").write_text(f"userId,movieId,tag,timestamp\n2,20,x,{timestamp}\n")
    assert "divide milliseconds" in refusal(lambda: load_tags(tmp_path))
    assert make_dataset(table(timestamp=[5, 10**11])).interactions.timestamp.max() == 10**11


rows = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 10), st.integers(0, 3)), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(rows, st.booleans(), st.randoms(use_true_random=False))
def test_every_row_is_kept_or_counted(rows, timed, random):
    index = [random.randint(0, 5) for _ in rows]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"], index=index)
    frame = frame if timed else frame.drop(columns="timestamp")
    items = pd.DataFrame({"item_id": [9, 2, 1], "title": ["nine ", "", "one"], "year": [1990, None, 1991]}, index=[5, 5, 5])
    given_frames = frame.copy(), items.copy()
    data = make_dataset(frame, items, like_from=6)
    for before, after in zip(given_frames, (frame, items)):
        pd.testing.assert_frame_equal(before, after)
    assert len(data.interactions) == len(rows) == data.rated().nnz + count(data, "repeat a user and an item")
    latest = {(u, i): r for u, i, r, t in (sorted(rows, key=lambda row: row[3]) if timed else rows)}
    for X, wanted in ((data.ratings(), latest), (data.likes(), {pair: 1 for pair, r in latest.items() if r >= 6}), (data.rated(), dict.fromkeys(latest, 1))):
        X = X.tocoo()
        assert {(data.users[u], data.item_ids[i]): x for u, i, x in zip(X.row, X.col, X.data)} == wanted
    assert set(data.item_ids) == {i for _, i in latest} | {1, 2, 9}
    assert count(data, "not in the items table") == len({i for _, i in latest} - {1, 2, 9})


# Accepted

letters = st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"])
ids = st.one_of(st.lists(kind, min_size=6, max_size=6) for kind in (st.text(letters, min_size=1, max_size=8).map("x{}".format), st.integers()))
titles = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=6, max_size=6)


@settings(max_examples=60, deadline=None)
@given(ids, ids, titles, st.sampled_from(["utf-8", "utf-8-sig"]))
def test_a_csv_file_says_what_the_frame_says(tmp_path_factory, user_ids, item_ids, titles, encoding):
    path = tmp_path_factory.getbasetemp() / "round.csv"
    frame = pd.DataFrame({"user_id": user_ids, "item_id": item_ids, "title": titles}, dtype=object)
    frame.to_csv(path, index=False, encoding=encoding, quoting=csv.QUOTE_ALL)
    data = load_interactions(path)
    assert sorted(map(str, data.users)) == sorted(set(map(str, user_ids))), "the same people"
    assert dict(zip(map(str, item_ids[::-1]), titles[::-1])).keys() == set(map(str, data.item_ids))
    if len(set(item_ids)) == len(item_ids):
        assert dict(zip(data.item_ids.map(str), data.items.title)) == {str(i): t.strip() for i, t in zip(item_ids, titles)}


@pytest.mark.parametrize("written, kept", [
    (["2", "10"], [2, 10]), (["-1", "0"], [-1, 0]), (["9" * 18, "1"], [1, 10**18 - 1]), ([str(2**62), "5"], [5, 2**62]),
    (["9" * 30, "8" * 30], ["8" * 30, "9" * 30]), (["9" * 30, "5"], ["5", "9" * 30]),
    (["007", "008"], ["007", "008"]), (["007", "7"], ["007", "7"]), (["0114709", "1234567"], ["0114709", "1234567"]),
    (["NA", "null"], ["NA", "null"]), (["nan", "None"], ["None", "nan"]), (["1a", "2b"], ["1a", "2b"]), (["１２", "١٢"], ["١٢", "１２"]),
    (["用户", "🚀👩‍🚀"], ["用户", "🚀👩‍🚀"]), (["x" * 100_000, "y"], ["x" * 100_000, "y"]),
])
def test_ids_stay_what_they_are(written, kept, load):
    data = load(f"user_id,item_id\n{written[0]},1\n{written[1]},1\n")
    assert data.users.tolist() == kept
    assert data.user_codes(kept).tolist() == [0, 1]


@pytest.mark.parametrize("ids, kept", [
    ([2, 10], [2, 10]), ([2., 10.], [2, 10]), (["b", "a"], ["a", "b"]), (pd.Categorical(["b", "a"]), ["a", "b"]), (pd.array([3, 2], "Int64"), [2, 3]),
    ([10**30, 10**30 + 1], [str(10**30), str(10**30 + 1)]), (["10", "9"], ["10", "9"]), (["1", "ann"], ["1", "ann"]),
])
def test_ids_of_a_frame_stay_what_they_are(ids, kept):
    assert make_dataset(table(user_id=ids)).users.tolist() == kept


@pytest.mark.parametrize("text", ["x" * 100_000, "花样年华", "👩‍🚀", "a, b", 'say ""hi""', "line\nbreak", "NA", ""])
def test_texts_stay_what_they_are(text, load):
    data = load(f'user_id,item_id,title\n1,2,"{text}"\n1,3,b\n')
    assert data.items.title.tolist() == [text.replace('""', '"'), "b"]


@pytest.mark.parametrize("encoding, notes", [("utf-8", ()), ("utf-8-sig", ()), ("latin-1", ("ratings.csv is not UTF-8: read as Latin-1",))])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(encoding, notes, end, load):
    data = load(f"user_id,item_id,title{end}José,1,Amélie{end}{end}bo,1,Amélie{end}".encode(encoding))
    assert (data.users.tolist(), data.items.title.tolist(), data.notes) == (["José", "bo"], ["Amélie"], notes)


def test_columns_are_renamed_and_others_kept(load, tmp_path):
    data = load("who,what,when,mood\n1,2,5,happy\n", columns={"who": "user_id", "what": "item_id", "when": "timestamp"})
    assert data.interactions.to_dict("records") == [{"user_id": 1, "item_id": 2, "timestamp": 5, "mood": "happy"}]
    table(mood=["happy", "sad"]).to_parquet(tmp_path / "a.parquet")
    assert load_interactions(tmp_path / "a.parquet", columns={"mood": "event"}).interactions.event.tolist() == ["happy", "sad"]


# Dataset

def test_matrix():
    ratings = table(user_id=["b", "a"], item_id=[9, 7], rating=[0, 4.])
    data = make_dataset(ratings, pd.DataFrame({"item_id": [9, 8, 7]}), like_from=4)
    stars, likes = data.ratings(), data.likes()
    assert stars.shape == likes.shape == (2, 3) and stars.dtype == likes.dtype == np.float32 and stars.format == likes.format == "csr"
    assert stars.nnz == 2 and stars.toarray().tolist() == [[4, 0, 0], [0, 0, 0]], "a rating of 0 is stored"
    assert likes.nnz == 1 and likes.toarray().tolist() == [[1, 0, 0], [0, 0, 0]]
    assert data.rated().toarray().tolist() == [[1, 0, 0], [0, 0, 1]] == make_dataset(ratings, data.items, like_from=0).likes().toarray().tolist()
    unrated = make_dataset(ratings.drop(columns="rating"))
    for X in (unrated.likes(), unrated.rated(), unrated.weights()):
        assert X.toarray().tolist() == [[1, 0], [0, 1]], "without ratings, whatever happened is a like"
    assert "no column 'rating'" in refusal(unrated.ratings)


def test_take_keeps_all_codes(movielens):
    some = movielens.take(np.arange(500))
    assert isinstance(some, Dataset) and some.items is movielens.items and some.users is movielens.users
    mask = np.arange(len(movielens.interactions)) < 500
    for same in (movielens.take(mask), movielens.take(list(range(500)))):
        pd.testing.assert_frame_equal(some.interactions, same.interactions)
    assert abs(some.ratings() + movielens.take(~mask).ratings() - movielens.ratings()).max() == 0
    again = some.take([499, 0]).take([0])
    assert again.interactions.to_dict("records") == movielens.interactions.iloc[[499]].to_dict("records")
    assert movielens.take([]).likes().nnz == 0


def test_unknown_ids_are_named(movielens):
    assert (movielens.users[movielens.user_codes([3, 1, 3])] == [3, 1, 3]).all() and movielens.item_codes(1).tolist() == [0]
    for ids, unknown in (([1, 999, -2], "999, -2"), (["1"], "'1'"), ([1.5], "1.5"), (None, "None")):
        assert f"user_ids: unknown {unknown}; known are 671 ids such as 1, 2, 3" in refusal(lambda: movielens.user_codes(ids))
    assert "item_ids: unknown 0" in refusal(lambda: movielens.item_codes([0]))


def test_movielens(movielens):
    assert (movielens.n_users, movielens.n_items, len(movielens.interactions)) == (671, 9066, 100_004)
    assert movielens.likes().nnz == 51_568 and movielens.item_ids.is_monotonic_increasing and movielens.users.is_monotonic_increasing
    counts = {"repeat a user": 0, "title: trimmed": 2, "without title": 5, "without year": 5, "without genres": 17}
    assert {words: count(movielens, words) for words in counts} == counts
    assert re.match(r"Dataset: 671 users, 9,066 items, 100,004 interactions\n- 2 items with spaces", repr(movielens))


# The publisher's files: made-up films in each of the three layouts

PUBLISHED = {
    "1m": {"ratings.dat": "1::20::5::978300760\n2::20::3::978302109\n", "movies.dat": "10::Café Noir (1999)::Drama|Romance\n20:: Night: Bus  (2000)::Comedy\n"},
    "100k": {"u.data": "1\t20\t5\t978300760\n2\t20\t3\t978302109\n", "u.genre": "unknown|0\nComedy|1\nDrama|2\nRomance|3\n\n",
             "u.item": "10|Café Noir (1999)|01-Jan-1999||http://a|0|0|1|1\n20| Night: Bus  (2000)|||http://b|0|1|0|0\n"},
    "32m": {"ratings.csv": "userId,movieId,rating,timestamp\n1,20,5.0,978300760\n2,20,3.0,978302109\n",
            "movies.csv": "movieId,title,genres\n10,Café Noir (1999),Drama|Romance\n20, Night: Bus  (2000),Comedy\n"},
}
PUBLISHED |= {"25m": PUBLISHED["32m"], "latest-small": PUBLISHED["32m"], "2016-small": PUBLISHED["32m"]}


def publish(folder, version, as_zip=False, **changed):
    """Write a release as GroupLens does, with changed files (dots in names as underscores), and give its path."""
    encoding = "latin-1" if version in ("1m", "100k") else "utf-8"
    files = PUBLISHED[version] | {name.replace("_", "."): text for name, text in changed.items()}
    path = folder / ("ml.zip" if as_zip else "ml")
    if as_zip:
        with zipfile.ZipFile(path, "w") as packed:
            for name, text in files.items():
                packed.writestr(f"ml-{version}/{name}", text.encode(encoding))
    else:
        path.mkdir()
        for name, text in files.items():
            (path / name).write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("version", PUBLISHED)
def test_each_release_is_read(version, as_zip, tmp_path):
    data = load_movielens(version, publish(tmp_path, version, as_zip))
    assert data.interactions[["user_id", "item_id", "rating", "timestamp"]].values.tolist() == [[1, 20, 5, 978300760], [2, 20, 3, 978302109]]
    assert data.interactions.dtypes.to_dict() == {"user_id": "int64", "item_id": "int64", "rating": "float64", "timestamp": "int64"}
    assert data.items[["item_id", "title", "genres", "year"]].values.tolist() == [[10, "Café Noir", "Drama|Romance", 1999], [20, "Night: Bus", "Comedy", 2000]]
    assert data.notes == () and data.likes().toarray().tolist() == [[0, 1], [0, 0]], "film 10, unrated, stays"


@pytest.mark.parametrize("version, changed, parts", [
    ("1m", dict(ratings_dat="1::20::5::9\n2::x::3::9\n3::30::3::9\n"), ["'item_id'", "row 2: 'x'"]), ("1m", dict(ratings_dat="1::20::5::9\n2::20::3\n"), ["ratings.dat", "line 2"]),
    ("1m", dict(ratings_dat="1::20::50::9\n"), ["'rating'", "row 1: '50.0'", "from 0.5 to 5"]), ("1m", dict(movies_dat="10::A (1999)::Drama\n10::B (1999)::Drama\n"), ["'item_id'", "again"]),
    ("100k", dict(u_data="1\t20\t5\t9\t9\n"), ["u.data", "expected 4"]), ("100k", dict(u_item="10|A (1999)|||http://a|0|0|1|7\n"), ["'Romance'", "row 1: '7'"]),
    ("100k", dict(u_genre="unknown|0\n"), ["u.item", "expected 6"]), ("25m", dict(ratings_csv="userId,itemId,rating,timestamp\n1,20,5,9\n"), ["ratings.csv", "'movieId'"]),
    ("25m", dict(ratings_csv="userId,movieId,timestamp,rating\n1,20,5,9\n"), ["'rating'", "row 1: '9'"]), ("25m", dict(movies_csv="movieId,title\n1,A\n"), ["movies.csv", "'genres'"]),
    ("25m", dict(ratings_csv="userId,movieId,rating,timestamp\n1,20,5,9\n1,20,,9\n"), ["'rating'", "row 2"]), ("25m", dict(movies_csv=""), ["movies.csv", "empty"]),
])
def test_a_faulty_release_is_refused(version, changed, parts, tmp_path):
    message = refusal(lambda: load_movielens(version, publish(tmp_path, version, **changed)))
    assert [part for part in parts if part not in message] == [], message


def test_a_release_is_mended_and_counted(tmp_path):
    data = load_movielens("25m", publish(tmp_path, "25m", ratings_csv="userId,movieId,rating,timestamp\n1,20,5,9\n1,20,4,8\n1,30,2,9",
                                         movies_csv="movieId,title,genres\n10,Untitled,(no genres listed)\n20,,Drama\n"))
    assert data.interactions.rating.tolist() == [5, 4, 2] and data.ratings().sum() == 7 and data.items.title.tolist() == ["Untitled", "", ""] and data.items.genres.tolist() == ["", "Drama", ""]
    counts = {"repeat a user": 1, "not in the items table": 1, "without title": 1, "without year": 2, "without genres": 1}
    assert {words: count(data, words) for words in counts} == counts and "ratings.csv does not end with a line break" in str(data)


def test_wrong_versions_and_paths_are_refused(tmp_path):
    assert "version: got '20m'; give one of 2016-small, latest-small, 100k" in refusal(lambda: load_movielens("20m"))
    path = publish(tmp_path, "1m")
    assert "no ratings.csv" in refusal(lambda: load_movielens("25m", path)) and "no tags.csv" in refusal(lambda: load_tags(path))
    assert "there is no folder or zip" in refusal(lambda: load_movielens("25m", tmp_path / "nowhere.zip"))


def test_a_release_is_fetched_with_its_checksum(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("llmrec.data.movielens.fetch", lambda *args: asked.append(args) or publish(tmp_path, "1m", as_zip=True))
    assert load_movielens("1m").n_items == 2
    assert asked == [("https://files.grouplens.org/datasets/movielens/ml-1m.zip", "md5:c4d9eecfca2ab87c1945afe126590906")]


def test_the_checksums_are_the_registered_ones():
    registry = tomllib.loads((Path(__file__).parents[1] / "data/checksums.toml").read_text())["download"]
    assert {f"https://files.grouplens.org/datasets/movielens/ml-{version}.zip": md5 for version, md5 in RELEASES.items() if md5} \
        == {entry["url"]: f"md5:{entry['md5']}" for entry in registry}


def test_years_are_split_off_titles():
    titles = ["Ran (1985)", "Se7en  (1995) ", "(500) Days of Summer (2009)", "2001: A Space Odyssey (1968)", "Big Bang Theory, The (2007-)", "Babylon 5", "(1985)", ""]
    title, year = split_year(pd.Series(titles))
    assert title.tolist() == ["Ran", "Se7en", "(500) Days of Summer", "2001: A Space Odyssey", "Big Bang Theory, The (2007-)", "Babylon 5", "(1985)", ""]
    assert year.fillna(0).tolist() == [1985, 1995, 2009, 1968, 0, 0, 0, 0]


def test_tags(tmp_path):
    (tmp_path / "tags.csv").write_text('userId,movieId,tag,timestamp\n2,20," slow, but good",9\n2,20,NA,8\n2,20,,8\n')
    assert load_tags(tmp_path).values.tolist() == [[2, 20, "slow, but good", 9], [2, 20, "NA", 8], [2, 20, "", 8]]
    (tmp_path / "tags.csv").write_text("userId,movieId,tag,timestamp\n2,20,x,soon\n")
    assert "row 1: 'soon'" in refusal(lambda: load_tags(tmp_path))


UNNAMED = {108548: "Big Bang Theory, The (2007-)", 108583: "Fawlty Towers (1975-1979)", 143410: "Hyena Road",
           151307: "The Lovers and the Despot", 162376: "Stranger Things"}


@pytest.mark.skipif(not os.environ.get("LLMREC_MOVIELENS_DIR"), reason="LLMREC_MOVIELENS_DIR does not name a folder with the publisher's ml-latest-small of 2016")
def test_the_publisher_and_the_package_give_the_same_data(movielens):
    folder = Path(os.environ["LLMREC_MOVIELENS_DIR"])
    published = load_movielens("2016-small", folder)
    columns = ["user_id", "item_id", "rating", "timestamp"]
    pd.testing.assert_frame_equal(published.interactions[columns], movielens.interactions[columns])
    assert published.n_items == 9_125 and len(published.item_ids.difference(movielens.item_ids)) == 59, "the unrated films stay"
    rated = published.items[published.items.item_id.isin(movielens.item_ids)].set_index("item_id")
    packaged = movielens.items.set_index("item_id")
    pd.testing.assert_series_equal(rated.genres, packaged.genres)
    assert rated.title[list(UNNAMED)].to_dict() == UNNAMED and rated.year[list(UNNAMED)].isna().all()
    assert (packaged.title[list(UNNAMED)] == "").all() and packaged.year[list(UNNAMED)].isna().all()
    pd.testing.assert_frame_equal(rated.drop(index=list(UNNAMED))[["title", "year"]], packaged.drop(index=list(UNNAMED))[["title", "year"]])
    tags = load_tags(folder)
    assert len(tags) == 1_296 and tags.tag.ne("").all() and tags.user_id.isin(movielens.users).all()


def test_a_matrix_is_made_once_and_cannot_be_written(movielens):
    assert movielens.likes() is movielens.likes() and movielens.ratings() is movielens.ratings()
    assert movielens.likes() is not movielens.rated()
    with pytest.raises(ValueError, match="read-only"):
        movielens.likes().data[0] = 7


def test_the_codes_of_a_part_are_those_of_the_whole(movielens):
    rows = np.arange(0, 1000, 7)
    part = movielens.take(rows)
    for known, ids, find in zip(part.codes, (part.interactions.user_id, part.interactions.item_id), (movielens.user_codes, movielens.item_codes)):
        assert np.array_equal(known, find(ids))
    mask = np.zeros(len(movielens.interactions), bool)
    mask[rows] = True
    assert movielens.take(mask).interactions.equals(part.interactions) and movielens.take([]).likes().nnz == 0
