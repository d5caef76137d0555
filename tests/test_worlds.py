"""A shop without ratings and a scale of ten points go the whole way: loaded, split, learnt from, judged."""
import numpy as np
import pandas as pd
import pytest

from llmrec.data.dataset import load_interactions, make_dataset
from llmrec.data.text import item_text
from llmrec.evaluation.protocol import evaluate
from llmrec.evaluation.splitting import PROTOCOLS, temporal
from llmrec.recommenders.base import Popularity, load_recommender
from llmrec.recommenders.neighbours import ItemKNN
from tests.worlds import EVENTS, N_ITEMS, N_USERS, shop, ten_points

BOOKS = {"reader": "user_id", "book": "item_id", "score": "rating"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("worlds")


@pytest.fixture(scope="module")
def events(folder):
    return load_interactions(*shop(folder), events=EVENTS)


@pytest.fixture(scope="module")
def books(folder):
    return load_interactions(ten_points(folder), columns=BOOKS, like_from=8)


def by_hand(frame):
    """{(user, item): sum of its events' weights}, row by row."""
    total = {}
    for row in frame.itertuples():
        total[row.user_id, row.item_id] = total.get((row.user_id, row.item_id), 0) + EVENTS[row.event]
    return total


def cells(data, X):
    """{(user, item): value} of a matrix."""
    X = X.tocoo()
    return {(data.users[u], data.item_ids[i]): x for u, i, x in zip(X.row, X.col, X.data)}


def test_a_shop_keeps_every_event_and_weighs_pairs(events, folder):
    frame = pd.read_csv(folder / "events.csv")
    assert len(events.interactions) == len(frame) > events.rated().nnz and (events.n_users, events.n_items) == (N_USERS, N_ITEMS)
    total = by_hand(frame)
    assert cells(events, events.weights()) == pytest.approx(total) and set(cells(events, events.rated())) == set(total)
    assert set(cells(events, events.likes())) == {pair for pair, weight in total.items() if weight > 1 - 1e-9} and events.likes().data.max() == 1
    last = frame.groupby(["user_id", "item_id"]).timestamp.max()
    assert {(row.user_id, row.item_id): row.timestamp for row in events.like_rows().itertuples()} == {pair: last[pair] for pair in cells(events, events.likes())}
    assert "read only where a template names them: 'brand', 'price'" in str(events) and "'channel'" in str(events)


def test_a_shop_s_columns_can_be_read(events):
    texts = item_text(events.items, "{title}[ by {brand}] ({category}), {price} euros")
    row = events.items.iloc[0]
    assert texts[0] == f"lamp no. 0 by {row.brand} (lamps, home), {row.price} euros" and row.genres == "lamps|home"
    with pytest.raises(ValueError, match="unknown field 'colour'; fields are title, genres, year, description, category.*brand, price"):
        item_text(events.items, "{colour}")


@pytest.mark.parametrize("world", ["events", "books"])
@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.filterwarnings("ignore:global_time")
def test_no_pair_is_on_both_sides_of_a_cut(name, world, request):
    data = request.getfixturevalue(world)
    split = PROTOCOLS[name](data)
    parts = {part: getattr(split, part) for part in ("train", "validation", "test")}
    seen = [set(part.pairs()) for part in parts.values()]
    assert not seen[0] & seen[1] and not seen[1] & seen[2] and not seen[0] & seen[2] and set(split.fit.pairs()) == seen[0] | seen[1]
    whole = data.interactions.groupby(["user_id", "item_id"]).size().to_dict()
    for part in parts.values():
        assert part.interactions.groupby(["user_id", "item_id"]).size().to_dict().items() <= whole.items(), "all events of a pair go together"
    assert sum(part.likes().nnz for part in parts.values()) == data.likes()[data.user_codes(split.train.users)].nnz
    if name == "temporal":
        first = pd.concat([parts["validation"].interactions, parts["test"].interactions]).groupby("user_id").timestamp.max()
        assert (split.train.interactions.groupby("user_id").timestamp.max() <= first).all()
    again = PROTOCOLS[name](make_dataset(data.interactions.sample(frac=1, random_state=3), data.items, data.like_from, data.events))
    assert again.hash == split.hash


@pytest.mark.parametrize("world", ["events", "books"])
def test_models_learn_from_any_world(world, request, tmp_path):
    split = temporal(request.getfixturevalue(world))
    popular, knn = (evaluate(model, split, exclude="liked") for model in (Popularity(), ItemKNN()))
    assert all(np.isfinite(report.per_user.to_numpy()).all() for report in (popular, knn))
    if world == "events":
        assert knn.summary["mean"]["ndcg@10"] > popular.summary["mean"]["ndcg@10"] > 0, "people keep to their kinds, which neighbours find out"
    ItemKNN().fit(split.fit).save(tmp_path / "model")
    kept = load_recommender(tmp_path / "model").train_
    assert (kept.like_from, kept.events) == (split.fit.like_from, split.fit.events) and (kept.likes() != split.fit.likes()).nnz == 0


def test_a_scale_of_ten_must_be_named(folder, books):
    with pytest.raises(ValueError, match=r"column 'rating': goes from 3 to 10 \(quartiles .*\) and does not end at 5.*like_from=\d.*data.like_from = \d"):
        load_interactions(folder / "books.csv", columns=BOOKS)
    frame = books.interactions.sort_values("timestamp").drop_duplicates(["user_id", "item_id"], keep="last")
    assert len(frame) < len(books.interactions) and cells(books, books.ratings()) == {(u, i): r for u, i, r in zip(frame.user_id, frame.item_id, frame.rating)}
    assert set(cells(books, books.likes())) == set(zip(frame.user_id[frame.rating >= 8], frame.item_id[frame.rating >= 8])) and books.weights() is books.likes()


@pytest.mark.parametrize("options, message", [
    (dict(events={"purchase": 1, "view": .1}), r"column 'event': .* hold an event without a weight \(row \d+: 'favourite'.*events=\{..., \"favourite\": 0.5\}.*data.events"),
    (dict(events={"purchase": "much"}), "events: got 'much' for 'purchase'"), (dict(events={"purchase": float("nan")}), "events: got 'nan'"), (dict(events={"purchase": True}), "events: got 'True'"),
    (dict(events=EVENTS, like_from="1"), "like_from: got '1'"), (dict(events=EVENTS, like_from=float("inf")), "like_from: got 'inf'"), (dict(events=EVENTS, columns={"event": "kind"}), "events: the interactions have no column 'event'"),
    (dict(item_columns={"x": "y"}), "columns: items.csv has no column 'x'"),
])
def test_what_nobody_can_guess_is_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        load_interactions(*shop(folder), **options)


def test_events_by_list_and_two_measures_are_refused():
    frame = pd.DataFrame({"user_id": [1], "item_id": [2], "event": ["view"], "rating": [5], "weight": [1]})
    with pytest.raises(TypeError, match="events: got list"):
        make_dataset(frame.drop(columns="weight"), events=["view"])
    with pytest.raises(ValueError, match="have both 'rating' and 'weight'"):
        make_dataset(frame)


def test_weights_are_taken_as_they_are():
    data = make_dataset(pd.DataFrame({"user_id": [1, 1, 1, 2], "item_id": [3, 3, 4, 3], "weight": [.2, .3, 0, .1]}))
    assert data.weights().toarray().tolist() == pytest.approx(np.array([[.5, 0], [.1, 0]])) and data.likes().toarray().tolist() == [[1, 0], [1, 0]]
    assert make_dataset(data.interactions, like_from=.4).likes().toarray().tolist() == [[1, 0], [0, 0]] and data.rated().nnz == 3
    with pytest.raises(ValueError, match="column 'weight': .* below 0"):
        make_dataset(data.interactions.assign(weight=-1))


def test_tenths_add_up_to_a_like():
    frame = pd.DataFrame({"user_id": 1, "item_id": 2, "event": ["view"] * 10})
    assert make_dataset(frame, events=EVENTS).likes().nnz == 1 and make_dataset(frame[:9], events=EVENTS).likes().nnz == 0
    data = make_dataset(frame.assign(event=["view", "buy"] * 5))
    assert "2 kinds of event ('view', 'buy') count alike; to weigh them pass events=" in str(data) and data.weights().toarray().tolist() == [[10]]


def test_category_is_the_other_name_of_genres():
    table = pd.DataFrame({"user_id": [1, 2], "item_id": [3, 4], "category": ["lamps", None]})
    for data in (make_dataset(table), make_dataset(table[["user_id", "item_id"]], table[["item_id", "category"]])):
        assert data.items.genres.tolist() == ["lamps", ""] and data.notes == ("1 items without category: kept",)
    both = make_dataset(table[["user_id", "item_id"]], table[["item_id", "category"]].assign(genres=["a", "b"]))
    assert both.items.genres.tolist() == ["a", "b"] and item_text(both.items, "{category} {genres}")[0] == "lamps a"
