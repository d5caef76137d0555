"""The pipeline: its stages one after the other; files that are written whole or not at all."""
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from llmrec.work import pipeline
from llmrec.data.dataset import load_interactions
from llmrec.data.text import clean_items, item_text
from llmrec.language.encoding import TextEncoder
from llmrec.evaluation.splitting import PROTOCOLS
from llmrec.evaluation.protocol import evaluate
from llmrec.tastes.hybrids import Hybrid
from llmrec import recommend_with_probability
from llmrec.lists.diversity import Diversified
from llmrec.lists.frontier import make_pool, trace_frontier
from llmrec.work.configuration import build_encoder, build_model, build_recommender, load_config
from llmrec.work.pipeline import Pipeline, differing, plot_reports, write_table


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Settings for a small shop of 20 films and 8 people."""
    folder, rng = tmp_path_factory.mktemp("shop"), np.random.default_rng(0)
    rows = [(f"u{user}", item, 3 + place % 3, place, f"Film {item}", 1990 + item)
            for user in range(8) for place, item in enumerate(rng.permutation(20)[:14])]
    pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp", "title", "year"]).to_csv(folder / "films.csv", index=False)
    return [f"data.interactions={folder / 'films.csv'}", f"encoder.cache_dir={folder / 'cache'}", "encoder.dtype=float32", "evaluation.k=[3, 5]", "diversity.weight=0.3"]


@pytest.fixture(scope="module")
def fitted(settings):
    return Pipeline(load_config(settings=settings)).fit()


def test_the_pipeline_is_its_stages_one_after_the_other(settings, fitted):
    section = fitted.config
    data = clean_items(load_interactions(section.data.interactions))
    encoder = TextEncoder(dtype="float32", cache_dir=section.encoder.cache_dir)
    model = Diversified(Hybrid(encoder), "mmr", .3, encoder=encoder).fit(data)
    wanted = recommend_with_probability(model, ["u3", "u1"], k=4, temperature=section.ranking.temperature)
    lists = fitted.recommend(["u3", "u1"], k=4)
    places = ["user_id", "item_id", "rank"]
    assert lists[places].equals(wanted[places]) and lists.attrs == wanted.attrs
    assert (lists.title == "Film " + lists.item_id.astype("str")).all() and (lists.year == 1990 + lists.item_id).all()
    assert len(fitted.recommend("u3")) == 6, "14 of 20 films are rated, so ten places cannot be filled"


def test_what_is_shown_beside_an_item_is_its_own(fitted):
    lists, plain = fitted.recommend(fitted.data_.users, k=5), fitted.model_.fitted_model()
    scores = dict(zip(fitted.data_.users, plain.score_items(fitted.data_.users)))
    wanted = [scores[row.user_id][fitted.data_.item_codes([row.item_id])[0]] for row in lists.itertuples()]
    assert np.allclose(lists.score, wanted) and (lists.groupby("user_id").score.diff() > 0).any(), "lists are not in the order of the scores"
    whole = recommend_with_probability(plain, fitted.data_.users, 20, fitted.config.ranking.temperature).set_index(["user_id", "item_id"]).probability
    assert np.allclose(lists.probability, whole.loc[list(zip(lists.user_id, lists.item_id))])
    assert len(fitted.recommend([])) == 0


def test_a_reason_adds_up_to_the_score(fitted):
    row = fitted.recommend("u2", k=1).iloc[0]
    found = fitted.explain("u2", row.item_id)
    assert found.score == pytest.approx(row.score, abs=1e-6) and found.base + found.likes.value.sum() == pytest.approx(row.score, abs=1e-6)
    assert set(found.likes.item_id) <= set(fitted.data_.interactions.query("user_id == 'u2' and rating >= 4").item_id)


def test_the_frontier_begins_with_the_plain_lists(settings, fitted):
    table = fitted.frontier()
    assert table.index[0] == ("none", 0) and table.index[1:].tolist() == [("mmr", weight) for weight in pipeline.FRONTIER]
    assert [ax.get_xlabel() for ax in pipeline.plot_price(table).axes] == ["mean distance within a list", "share of the catalogue in any list"]
    with pytest.raises(ValueError, match="diversity.method is 'none'"):
        Pipeline(load_config(settings=[*settings, "diversity.method=none"])).frontier()


def test_what_needs_a_fit_says_so(settings):
    model = Pipeline(load_config(settings=settings))
    for call in (lambda: model.recommend("u1"), lambda: model.explain("u1", 1), lambda: model.load().recommend("u1")):
        with pytest.raises(NotFittedError, match=r"^Pipeline: is not fitted yet; call fit\(\) first$"):
            call()
    with pytest.raises(NotFittedError):
        model.fit().load().recommend("u1")
    with pytest.raises(TypeError, match="^config: got str; give a Config"):
        Pipeline("mine.toml")


def test_figures_and_frontier_share_a_fit(settings, monkeypatch):
    fits, fit = [], Hybrid.fit
    monkeypatch.setattr(Hybrid, "fit", lambda self, train: fits.extend([train] if train is not None else []) or fit(self, train))
    model = Pipeline(load_config(settings=settings)).fit()
    report, table = model.evaluate()["hybrid, mmr"], model.frontier()
    assert len(fits) == 2 and fits[0] is model.data_
    assert report.meta["model"] == "Diversified" and report.meta["fit_s"] > 0 and report.meta["parameters"]["method"] == "mmr"
    split = PROTOCOLS["temporal"](model.data_)
    alone = evaluate(build_model(model.config), split, "test", (3, 5))
    assert report.per_user.equals(alone.per_user) and np.array_equal(report.topk, alone.topk), "and they are what they were when each was fitted by itself"
    V = build_encoder(model.config).fit_transform(item_text(split.train.items, model.config.text.template))
    pool = make_pool(build_recommender(model.config.recommender, build_encoder(model.config), model.config.text.template), split, V, "test")
    assert table.equals(trace_frontier(pool, {"mmr": pipeline.FRONTIER}, 10))
    model.load().evaluate()
    assert len(fits) == 5, "other data, another fit"


@pytest.mark.parametrize("name", [r"$\frac$", "a$b$", "[/b]"])
def test_names_in_a_picture_are_no_formulas(name, fitted):
    figure = plot_reports({name: fitted.evaluate()["random"]})
    figure.canvas.draw()
    assert figure.axes[0].get_yticklabels()[0].get_text() == name


def test_wrong_calls_of_the_pipeline(settings, fitted):
    with pytest.raises(ValueError, match="k: got 0"):
        fitted.recommend("u1", k=0)
    with pytest.raises(ValueError, match="user_ids: unknown 'u99'"):
        fitted.recommend(["u1", "u99"])


def test_evaluate_measures_the_model_and_two_baselines(settings, fitted):
    reports = fitted.evaluate()
    assert list(reports) == ["hybrid, mmr", "popularity", "random"]
    assert {report.meta["hash"] for report in reports.values()} == {reports["random"].meta["hash"]}
    index = list(reports["random"].summary.index)
    assert index[:2] + index[6:8] + index[-4:] == ["ndcg@3", "recall@3", "ndcg@5", "recall@5", "coverage@3", "coverage@5", "gini@3", "gini@5"]
    assert Pipeline(fitted.config).evaluate()["random"].summary.equals(reports["random"].summary), "it loads the data if need be"
    axes = plot_reports(reports).axes
    assert [ax.get_xlabel().split(" ")[0] for ax in axes] == ["ndcg@3", "recall@5", "coverage@3"]
    assert [bar.get_width() for bar in axes[0].patches] == [report.summary.loc["ndcg@3", "mean"] for report in reports.values()]


@pytest.mark.filterwarnings("ignore:reports")
def test_configurations_are_compared_on_the_same_people(settings):
    configs = {name: load_config(settings=[*settings, *more]) for name, more in (("plain", []), ("far", ["recommender.prior=0"]), ("same", []))}
    assert differing(configs).to_dict("index") == {"recommender.prior": {"plain": .8, "far": 0, "same": .8}}
    reports, tested = pipeline.compare_configs(configs)
    assert list(reports) == list(configs) and len(tested) == 3
    assert reports["plain"].summary.equals(reports["same"].summary) and tested.difference.iloc[1] == 0
    with pytest.raises(ValueError, match=r"plain, other differ in evaluation.k \(\(3, 5\), \(4,\)\)"):
        differing({"plain": configs["plain"], "other": load_config(settings=[*settings, "evaluation.k=[4]"])})


# Files

@pytest.mark.parametrize("name", ["lists.csv", "lists.parquet"])
def test_tables_come_back_as_they_were(name, tmp_path):
    table = pd.DataFrame({"user_id": ["a,b", "玩"], "score": np.float32([.5, 1e-7]), "year": pd.array([1990, None], "Int64"), "title": ['"', "🚀\n"]})
    write_table(table, tmp_path / "a" / "b" / name)
    path = tmp_path / "a" / "b" / name
    back = pd.read_parquet(path) if name.endswith("parquet") else pd.read_csv(path, dtype={"score": "float32", "year": "Int64"})
    assert [p.name for p in path.parent.iterdir()] == [name]
    pd.testing.assert_frame_equal(back, table)


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_trouble_leaves_the_old_file_and_no_litter(trouble, tmp_path, monkeypatch):
    (tmp_path / "lists.csv").write_text("old")
    write_bytes = Path.write_bytes

    def half(path, data):
        write_bytes(path, data[:len(data) // 2])
        raise trouble
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(type(trouble)):
        write_table(pd.DataFrame({"a": [1, 2]}), tmp_path / "lists.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["lists.csv"] and (tmp_path / "lists.csv").read_text() == "old"


def test_a_new_file_may_be_read_by_whom_the_folder_allows(tmp_path):
    write_table(pd.DataFrame({"a": [1]}), tmp_path / "new.csv")
    (tmp_path / "plain").write_text("")
    assert os.stat(tmp_path / "new.csv").st_mode == os.stat(tmp_path / "plain").st_mode


def test_a_table_with_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match="output: got '.xlsx'; give one of '.parquet', '.csv'"):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "lists.xlsx")
    assert not list(tmp_path.iterdir())
