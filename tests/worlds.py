"""Worlds that are not films, made up and the same every time: a shop's log of events, and books rated out of ten."""
import numpy as np
import pandas as pd

EVENTS = {"purchase": 1, "favourite": .5, "view": .1}
KINDS = ["lamps", "rugs", "chairs", "shelves"]
N_USERS, N_ITEMS = 80, 60


def items(rng, first):
    """Items of four kinds: ids as text, a title, a brand, a price and a category."""
    kinds = np.arange(N_ITEMS) % len(KINDS)
    return pd.DataFrame({"item_id": [f"{first}-{i:03d}" for i in range(N_ITEMS)], "title": [f"{KINDS[k][:-1]} no. {i}" for i, k in enumerate(kinds)],
                         "category": [f"{KINDS[k]}|home" for k in kinds], "brand": rng.choice(["Nord", "Sol", ""], N_ITEMS), "price": rng.integers(5, 300, N_ITEMS) + .9})


def visits(rng):
    """(user, item, time) codes of visits: people keep to their two kinds nine times in ten, and popular items come first."""
    popular = 1 / np.arange(1, N_ITEMS + 1)
    for user in range(N_USERS):
        taste = np.isin(np.arange(N_ITEMS) % len(KINDS), rng.permutation(len(KINDS))[:2])
        weights = popular * np.where(taste, 1, .1)
        for number, item in enumerate(rng.choice(N_ITEMS, 22, replace=False, p=weights / weights.sum())):
            yield user, item, 1_700_000_000 + 86_400 * number + int(rng.integers(40_000))


def shop(folder):
    """A shop as two files: events (views, then perhaps a favourite or a purchase, and looks at what was bought), and items without ratings."""
    rng, rows = np.random.default_rng(0), []
    for user, item, time in visits(rng):
        steps = ["view"] * rng.integers(1, 4) + ["favourite"] * (rng.random() < .3) + ["purchase"] * (rng.random() < .6) + ["view"] * (rng.random() < .3)
        rows += [(f"customer {user:03d}", f"sku-{item:03d}", step, time + 60 * n, user % 3) for n, step in enumerate(steps)]
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "event", "timestamp", "channel"]).sample(frac=1, random_state=0)
    events.to_csv(folder / "events.csv", index=False)
    items(rng, "sku").to_csv(folder / "items.csv", index=False)
    return folder / "events.csv", folder / "items.csv"


def ten_points(folder):
    """Books rated from 1 to 10 in one file, some of them twice, with other names for the columns."""
    rng, rows = np.random.default_rng(1), []
    for user, item, time in visits(rng):
        rows += [(user, f"book-{item:03d}", int(rng.integers(3, 11)), time + 3600 * n) for n in range(1 + (rng.random() < .1))]
    pd.DataFrame(rows, columns=["reader", "book", "score", "timestamp"]).to_csv(folder / "books.csv", index=False)
    return folder / "books.csv"
