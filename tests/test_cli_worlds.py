"""Worlds that are not films at the command line: a shop's events without ratings, and a scale of ten points, from CSV to lists, reasons and figures."""
import re

import numpy as np
import pandas as pd
import pytest

from llmrec.work.cli import main
from tests.worlds import shop, ten_points

LIKE_FROM = re.compile(r"data\.like_from = \d+")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files of both worlds, and a configuration for each."""
    folder = tmp_path_factory.mktemp("worlds")
    events, items = shop(folder)
    rest = f"[encoder]\ncache_dir = '{folder / 'cache'}'\n"
    (folder / "shop.toml").write_text(f"[data]\ninteractions = '{events}'\nitems = '{items}'\nevents = {{purchase = 1, favourite = 0.5, view = 0.1}}\n"
                                      f"[text]\ntemplate = '{{title}}[ by {{brand}}][. {{category}}]'\n{rest}")
    books = pd.read_csv(ten_points(folder))
    books.assign(title="Book " + books.book.str[-3:]).to_csv(folder / "books.csv", index=False)
    (folder / "books.toml").write_text(f"[data]\ninteractions = '{folder / 'books.csv'}'\ncolumns = {{reader = 'user_id', book = 'item_id', score = 'rating'}}\nlike_from = 8\n{rest}")
    return folder


@pytest.fixture
def llmrec(folder, tmp_path, monkeypatch, capsys):
    """The command in an empty folder: its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(command, world, *words):
        code = main([command, "--config", str(folder / f"{world}.toml"), *map(str, words)])
        return code, *capsys.readouterr()
    return call


WORLDS = [("shop", "customer 001", 80), ("books", "1", 80)]


@pytest.mark.parametrize("world, user, n_users", WORLDS)
def test_lists_for_any_world(world, user, n_users, llmrec, tmp_path, folder):
    code, out, err = llmrec("recommend", world, "--users", user, "--k", 5, "--output", "lists.csv")
    assert (code, err) == (0, "") and f"User {user} liked" in out and not re.search("film|movie", out, re.I)
    assert re.search(r"Measured on \d+ users .*│ hybrid, mmr +│ 0\.\d{4} \[", out, re.S) and f"{n_users} users, 60 items" in out
    lists = pd.read_csv(tmp_path / "lists.csv")
    assert len(lists) == 5 and lists.score.notna().all()
    frame = pd.read_csv(folder / ("events.csv" if world == "shop" else "books.csv")).rename(columns={"reader": "user_id", "book": "item_id"})
    assert not set(lists.item_id) & set(frame.item_id[frame.user_id.astype("str") == user]), "nothing that the person has had"
    if world == "shop":
        assert {"brand", "price"} < set(lists) and re.search(r"│ (lamp|rug|chair|shelf|shelve) no\. \d+ ", out)


@pytest.mark.parametrize("world, user, n_users", WORLDS)
def test_a_reason_in_any_world(world, user, n_users, llmrec, folder):
    item = pd.read_csv(folder / ("events.csv" if world == "shop" else "books.csv")).iloc[:, 1].iloc[0]
    code, out, err = llmrec("explain", world, "--user", user, "--item", item)
    assert (code, err) == (0, "") and ("because you liked" in out.lower() or "score" in out) and not re.search("film|movie", out, re.I)


def test_figures_of_a_shop(llmrec, tmp_path):
    code, out, err = llmrec("evaluate", "shop", "--output", "figures.csv", "--set", "recommender.name=ItemKNN", "diversity.method=none")
    figures = pd.read_csv(tmp_path / "figures.csv").pivot(index="model", columns="measure", values="mean")["ndcg@10"]
    assert (code, err) == (0, "") and "│ itemknn" in out
    assert figures["itemknn"] > figures["random"] and np.isfinite(figures).all(), "people keep to their kinds of things"


def test_a_scale_that_nobody_explained_is_refused_with_the_line_to_add(llmrec, folder, tmp_path):
    (folder / "unsaid.toml").write_text((folder / "books.toml").read_text().replace("like_from = 8\n", ""))
    for command in ("recommend", "evaluate"):
        code, out, err = llmrec(command, "unsaid")
        assert code == 2 and re.fullmatch(r"llmrec: [^\n]+\n", err) and LIKE_FROM.search(err), err
    line = LIKE_FROM.search(err)[0]
    (folder / "said.toml").write_text((folder / "unsaid.toml").read_text().replace("[data]\n", f"[data]\n{line.removeprefix('data.')}\n"))
    assert llmrec("evaluate", "said")[0] == 0, "and with that line it goes on"


def test_wrong_events_and_columns_are_refused_by_their_keys(llmrec):
    for setting, says in (("data.events={purchase = 1}", "column 'event'"), ("data.events={purchase = 'much'}", "data.events: got"), ("data.like_from=nan", "data.like_from: got nan"),
                          ("data.item_columns={colour = 'title'}", "colour"), ("text.template={titel}", "text.template: '{titel}' has the unknown field 'titel'"), ("data.events=[1]", "data.events: got [1]")):
        code, out, err = llmrec("evaluate", "shop", "--set", setting)
        assert code == 2 and says in err and re.fullmatch(r"llmrec: [^\n]+\n", err), err
