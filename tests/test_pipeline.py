"""The configuration: complete, checked whole before anything runs; the pipeline; files that are written whole or not at all."""
import os
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from llmrec.work import pipeline
from llmrec.data.dataset import load_interactions
from llmrec.data.text import clean_items, item_text
from llmrec.language.encoding import TextEncoder
from llmrec.evaluation.splitting import PROTOCOLS
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.base import describe_estimator
from llmrec.tastes.profiles import ProfileRecommender
from llmrec.tastes.probing import RidgeRecommender
from llmrec.tastes.hybrids import Hybrid
from llmrec.ranking.probability import recommend_with_probability
from llmrec.ranking.two_tower import TwoTower
from llmrec.lists.diversity import DIVERSIFIERS, Diversified
from llmrec.lists.frontier import make_pool, trace_frontier
from llmrec.work.pipeline import DEFAULT, Config, Pipeline, load_config, plot_reports, write_table

DEFAULTS = tomllib.loads(DEFAULT.read_text(encoding="utf-8"))


# The configuration

def test_defaults_are_complete():
    assert load_config().model_dump() == DEFAULTS
    sections = {name: set(field.annotation.model_fields) for name, field in Config.model_fields.items()}
    assert sections == {name: set(keys) for name, keys in DEFAULTS.items()}
    assert all(field.is_required() for section in Config.model_fields.values() for field in section.annotation.model_fields.values()), \
        "the TOML file is the one place of the defaults"
    encoder = TextEncoder().get_params()
    assert set(DEFAULTS["encoder"]) == set(encoder) - {"verbose"}, "every parameter of the encoder can be configured"
    configured = {*DEFAULTS["profile"], *DEFAULTS["index"]} - {"factory", "n_interests"}
    assert configured == set(ProfileRecommender().get_params(deep=False)) - {"encoder", "similarity", "template", "index"}, "and every parameter of the profile"
    for model, sections in ((Hybrid(), ["features", "hybrid"]), (RidgeRecommender(), ["features", "ridge"]), (TwoTower(), ["two_tower"])):
        configured = {key for section in sections for key in DEFAULTS[section]}
        assert configured == set(model.get_params(deep=False)) - {"encoder", "template"}, "and every parameter of the other recommenders"


@pytest.mark.parametrize("method, model", [("hybrid", Hybrid()), ("ridge", RidgeRecommender()), ("two_tower", TwoTower()), ("profile", ProfileRecommender())], ids=lambda value: value if isinstance(value, str) else "")
def test_the_defaults_are_those_of_the_classes(method, model):
    configured = pipeline.build_model(load_config(settings=[f"recommender.method={method}", "diversity.method=none"]))
    assert describe_estimator(configured) == describe_estimator(model.set_params(encoder=TextEncoder()))


def test_the_hybrid_made_varied_is_the_default():
    model, encoder = pipeline.build_model(load_config()), TextEncoder()
    assert describe_estimator(model) == describe_estimator(Diversified(Hybrid(encoder), "mmr", DIVERSIFIERS["mmr"].weight, encoder=encoder))
    longer = pipeline.build_model(load_config(settings=["ranking.k=300", "evaluation.k=[5]", "diversity.method=dpp", "diversity.weight=0.1"]))
    assert (longer.places, longer.n_candidates, longer.method, longer.weight) == (300, 300, "dpp", .1)


def test_every_section_reaches_the_model():
    settings = ["diversity.method=none", "recommender.method=profile", "encoder.pooling=cls", "encoder.layer=3", "encoder.prefix=film: ", "projection.method=whiten", "projection.n_components=8", "profile.method=interests",
                "profile.half_life=20", "profile.by_rating=true", "profile.dislikes=0.5", "profile.n_interests=2", "similarity.method=pearson", "index.factory=HNSW32", "index.n_candidates=50"]
    model = pipeline.build_model(load_config(settings=settings))
    assert (model.method, model.half_life, model.by_rating, model.dislikes, model.n_interests, model.similarity) == ("interests", 20, True, .5, 2, "pearson")
    assert (model.index, model.n_candidates, model.encoder.method, model.encoder.n_components) == ("HNSW32", 50, "whiten", 8)
    assert (model.encoder.encoder.pooling, model.encoder.encoder.layer, model.encoder.encoder.prefix) == ("cls", 3, "film:")

    settings = ["diversity.method=none", "features.year=0.1", "hybrid.half_life=0", "hybrid.item_reg=7", "hybrid.n_neighbours=9", "text.template={title}"]
    model = pipeline.build_model(load_config(settings=settings))
    assert (model.year, model.half_life, model.item_reg, model.n_neighbours, model.template, model.encoder.model) == (.1, None, 7, 9, "{title}", "minilm")
    model = pipeline.build_model(load_config(settings=["diversity.method=none", "recommender.method=two_tower", "two_tower.hidden=[256, 8]", "two_tower.checkpoint=run.npz", "two_tower.rng=3"]))
    assert (model.hidden, model.checkpoint, model.rng) == ((256, 8), "run.npz", 3)


def test_changes_are_laid_over_the_defaults(tmp_path):
    (tmp_path / "mine.toml").write_text("\ufeff[ranking]\nk = 3\ntemperature = 1\n[data]\ninteractions = 'ours.csv'\n[data.columns]\nfilm = 'item_id'\n", encoding="utf-8")
    config = load_config(tmp_path / "mine.toml", ["ranking.k=4", "ranking.k = 5", "encoder.model=some/model", "evaluation.k=[5]"])
    assert config.ranking.k == 5 and config.ranking.temperature == 1 and config.data.columns == {"film": "item_id"}
    assert config.encoder.model == "some/model" and config.evaluation.k == [5] and config.text.model_dump() == DEFAULTS["text"]
    with pytest.raises(ValueError, match="frozen"):
        config.ranking.k = 6
    assert load_config().model_dump() == DEFAULTS


@pytest.mark.parametrize("text, message", [
    ("[ranking]\ntemprature = 1", "unknown key 'ranking.temprature'; did you mean 'ranking.temperature'?"),
    ("[rankin]\nk = 1", "unknown section 'rankin.*did you mean 'ranking"),
    ("[rankin]", "unknown section 'rankin.*did you mean 'ranking"),
    ("[zzz]\nq = 1", "unknown section 'zzz'; known are data, .*evaluation"), ("[ranking]\nzzz = 1", "unknown key 'ranking.zzz'; did you mean 'ranking.k'"),
    ("[profile]\ndislikes = '.5'", "profile.dislikes: got '.5'; give a number from 0 to 10,000, in TOML such as 0.5"),
    ("k = 3", "'k' stands outside a section"), ("ranking = 3", "'ranking' stands outside a section"),
    ("[[ranking]]\nk = 3", "'ranking' stands outside a section"),
    ("[ranking]\nk = '3'", "ranking.k: got '3'; give a whole number from 1 to 10,000"), ("[ranking]\nk = 3.0", "ranking.k: got 3.0"),
    ("[ranking]\nk = true", "ranking.k: got True"), ("[ranking]\nk = 2026-01-01", "ranking.k: got .*2026"),
    ("[ranking]\nk = 0", "ranking.k: got 0; give a whole number from 1 to 10,000"), ("[ranking]\nk = -1", "ranking.k: got -1"),
    ("[ranking.k]\na = 1", "ranking.k: got {'a': 1}"), ("[ranking]\nk = 1_000_000_000", "ranking.k: got 1000000000"),
    ("[ranking]\ntemperature = nan", "ranking.temperature: got nan"), ("[ranking]\ntemperature = inf", "ranking.temperature: got inf"),
    ("[ranking]\ntemperature = 0", "ranking.temperature: got 0"), ("[ranking]\ntemperature = -0.1", "ranking.temperature: got -0.1"),
    ("[encoder]\nmax_length = 3", "encoder.max_length: got 3"), ("[encoder]\nbatch_tokens = 1", "encoder.batch_tokens: got 1"),
    ("[evaluation]\nk = []", r"evaluation.k: got \[\]; give at least 1"), ("[evaluation]\nk = [10, 0]", "evaluation.k.*got 0"),
    ("[evaluation]\nk = 10", "evaluation.k: got 10; give a list, such as \\[10, 20\\]"),
    ("[evaluation]\nprotocol = 'tempral'", "evaluation.protocol: got 'tempral'"),
    ("[recommender]\nmethod = 'slim'", "recommender.method: got 'slim'; accepted are 'hybrid', 'ridge', 'two_tower', 'profile'"), ("[two_tower]\nloss = 'bce'", "two_tower.loss: got 'bce'"),
    ("[profile]\nhalf_life = 20", "profile.half_life has no effect while recommender.method is 'hybrid'; it is read by 'profile'"),
    ("[recommender]\nmethod = 'ridge'\n[hybrid]\nreg = 1", "hybrid.reg has no effect while recommender.method is 'ridge'; it is read by 'hybrid'"),
    ("[recommender]\nmethod = 'two_tower'\n[features]\nyear = 1", "features.year has no effect .*; it is read by 'hybrid', 'ridge'"),
    ("[hybrid]\nreg = 0.0", "hybrid.reg: got 0.0"), ("[hybrid]\nlong = 1.5", "hybrid.long: got 1.5"), ("[two_tower]\nhidden = [0]", "two_tower.hidden.0: got 0"),
    ("[diversity]\nmethod = 'mrr'", "diversity.method: got 'mrr'; accepted are 'none', 'random'"), ("[diversity]\nweight = 1.5", "diversity.weight: got 1.5"),
    ("[profile]\nmethod = 'median'", "profile.method: got 'median'"), ("[profile]\nhalf_life = -1", "profile.half_life: got -1"),
    ("[projection]\nmethod = 'center'", "projection.method: got 'center'; accepted are 'none', 'centre', 'whiten'"), ("[encoder]\npooling = 'sum'", "encoder.pooling: got 'sum'"), ("[similarity]\nmethod = 'cos'", "similarity.method: got 'cos'"),
    ("[text]\ntemplate = '{title.x}'", "text.template.*unknown field 'title.x'"),
    ("[data]\ncolumns = {a = 1}", "data.columns.a: got 1; give a text in quotes"),
    ("[ranking\nk = 3", "mine.toml is not well-formed TOML: .*line 1"), ("[ranking]\nk = 1\nk = 2", "mine.toml is not well-formed TOML"),
    ("[profile]\nby_rating = 1", "profile.by_rating: got 1; give true or false"), ("[data]\ncolumns = 1", "data.columns: got 1; give a table"),
    ("[ranking]\nk = " + "[" * 5000 + "]" * 5000, "mine.toml is nested too deeply"), ("[ranking]\nk" + ".k" * 5000 + " = 1", "ranking.k: got {'k': {'k'"),
    ("[ranking]\nk = " + "1" * 5000, "mine.toml is not well-formed TOML: .*5000 digits"), ("[ranking]\nk = 0x" + "f" * 5000, "ranking.k: got a number of thousands of digits"),
    (b"# caf\xe9\n[ranking]\nk = 3", "mine.toml is not well-formed TOML: 'utf-8'"), (b"\0", "mine.toml is not well-formed TOML"),
])
def test_a_wrong_file_is_refused_in_one_line(text, message, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"^config: .*{message}") as error:
        load_config(path)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("settings, message", [
    # there is no such device, or nobody could compute with it
    ("encoder.device=cpu:abc", "encoder.device: got 'cpu:abc'; accepted are 'auto', 'cpu'"), ("encoder.device=cpu:-1", "encoder.device: got 'cpu:-1'"),
    ("encoder.device=cuda:9999", "encoder.device: got 'cuda:9999'"), ("encoder.device=cuda:999", "encoder.device.*'cuda:999'"), ("encoder.device=tpu", "encoder.device: got 'tpu'"),
    ("encoder.dtype=int8", "encoder.dtype: got 'int8'; accepted are 'auto', 'float32'"),
    # numbers that end in NaN, in a full memory or in a traceback from below
    ("recommender.method=two_tower two_tower.lr=1e38", "two_tower.lr: got 1e\\+38; give a number from 1e-07 to 1$"),
    ("recommender.method=two_tower two_tower.n_sampled=1000000000000", "two_tower.n_sampled: got 1000000000000; give a whole number from 1 to 16,384"),
    ("recommender.method=two_tower two_tower.hidden=[100000]", "two_tower.hidden.0: got 100000; give a whole number from 1 to 2,048"),
    ("recommender.method=two_tower two_tower.hidden=[1,1,1,1,1]", "two_tower.hidden: got \\[1, 1, 1, 1, 1\\]; give at most 4"),
    ("recommender.method=two_tower two_tower.weight_decay=1e30", "two_tower.weight_decay: got 1e\\+30"),
    ("recommender.method=two_tower two_tower.rng=1" + "0" * 40, "two_tower.rng: got 10{10,}.*; give a whole number from 0 to 4,294,967,295"),
    ("features.genres=1e300", "features.genres: got 1e\\+300"), ("hybrid.prior=1e300", "hybrid.prior: got 1e\\+300"), ("hybrid.rated=1e300", "hybrid.rated"),
    ("hybrid.item_reg=1e-300", "hybrid.item_reg: got 1e-300; give a number from 0.01 to 1,000,000"), ("recommender.method=ridge ridge.reg=1e-300", "ridge.reg: got 1e-300"),
    ("recommender.method=ridge ridge.shared=1e300", "ridge.shared: got 1e\\+300"), ("recommender.method=profile profile.dislikes=1e300", "profile.dislikes: got 1e\\+300"),
    ("recommender.method=profile profile.method=attention profile.temperature=1e-300", "profile.temperature: got 1e-300; give a number from 0.003"),
    ("encoder.layer=1000000000000000000000", "encoder.layer: got 10+; give a whole number from -1 to 1,000"),
    # texts that no file system and no tokenizer takes
    ("encoder.prefix=\udcff", "encoder.prefix: got .*; give a text in quotes, of at most 1,000 characters of valid Unicode"), ("encoder.cache_dir=a\0b", "encoder.cache_dir: got .*none of them NUL"),
    ("ranking.k=" + "[" * 5000 + "]" * 5000, "ranking.k: got '\\[\\[.*; give a whole number"), ("ranking.k=0x" + "f" * 5000, "ranking.k: got a number of thousands of digits"),
    # what nothing would read
    ("evaluation.k=[10,10]", "evaluation.k: got \\[10, 10\\]; give each length once"),
    ("projection.n_components=50", "projection.n_components has no effect while projection.method is 'none'; change that too, or leave projection.n_components out"),
    ("data.items=films.csv", "data.items has no effect while data.interactions is 'movielens'"), ("data.columns={film='item_id'}", "data.columns has no effect while data.interactions is 'movielens'"),
    ("recommender.method=profile index.n_candidates=9", "index.n_candidates has no effect while index.factory is ''"),
    ("recommender.method=profile profile.temperature=1", "profile.temperature has no effect while profile.method is 'mean'"),
    ("recommender.method=two_tower two_tower.loss=full two_tower.n_sampled=9", "two_tower.n_sampled has no effect while two_tower.loss is 'full'"),
    # what cannot go together
    ("recommender.method=profile profile.method=attention index.factory=Flat", "index.factory: got 'Flat' while profile.method is 'attention'"),
    ("recommender.method=profile profile.method=text profile.dislikes=1", "profile.dislikes: got 1.0 while profile.method is 'text'"),
], ids=lambda value: value[:60].encode("ascii", "replace").decode().replace("\0", "0"))
def test_what_cannot_be_used_is_refused_before_data_are_loaded(settings, message):
    with pytest.raises(ValueError, match=f"^config: {message}") as error:
        load_config(settings=settings.split())
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 300


NUMBERS = [f"{section}.{key}" for section, keys in DEFAULTS.items() for key, value in keys.items() if type(value) in (int, float)]


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_bounds(name):
    section, key = name.split(".")
    annotation = Config.model_fields[section].annotation.model_fields[key]
    for value in (-1e300, 1e300, float("nan"), float("inf"), 10**40, True, "1", [1]):
        with pytest.raises(ValueError, match=f"config: {name}: got .*; give a (whole )?number from"):
            load_config(settings=[f"{name}={str(value).lower() if not isinstance(value, str) else repr(value)}"])
    assert annotation.is_required()


@pytest.mark.parametrize("setting", ["", "=", "ranking.k", "ranking=3", ".k=3", "ranking.=3", "ranking.k=3\nk=4"])
def test_a_setting_of_another_form_is_refused(setting):
    with pytest.raises(ValueError, match="^set: got .*; write section.key=value$"):
        load_config(settings=[setting])


def test_a_whole_copy_of_the_defaults_may_name_another_recommender(tmp_path):
    (tmp_path / "mine.toml").write_text(DEFAULT.read_text().replace('method = "hybrid"', 'method = "profile"'))
    assert load_config(tmp_path / "mine.toml", ["profile.half_life=20"]).profile.half_life == 20
    assert set(pipeline.READS) == {"hybrid", "ridge", "two_tower", "profile"} and {name for names in pipeline.READS.values() for name in names} < set(DEFAULTS)


def test_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path / "nowhere.toml", tmp_path, str(tmp_path), ""):
        with pytest.raises(FileNotFoundError, match="^config: there is no file"):
            load_config(path)


def test_keys_of_data_reach_the_loader(monkeypatch):
    monkeypatch.setattr(pipeline, "load_interactions", lambda *args, **options: (args, options))
    monkeypatch.setattr(pipeline, "clean_items", lambda data: data)
    section = load_config(settings=["data.interactions=ours.csv", "data.columns={film = 'item_id'}", "data.max_rows=5", "data.max_bytes=6"]).data
    assert pipeline.load_data(section) == (("ours.csv", None), {"columns": {"film": "item_id"}, "max_rows": 5, "max_bytes": 6, "max_ratio": 100})
    with pytest.raises(ValueError, match="data.max_rows has no effect while data.interactions is 'movielens'"):
        load_config(settings=["data.max_rows=5"])


@pytest.mark.parametrize("factory", ["HNSW0", "HNSW1", "IVF4_HNSW0,Flat", "IVF0,Flat", "PQ64x24", "a[/b]"])
def test_an_index_that_faiss_dies_of_is_refused_with_the_configuration(factory):
    with pytest.raises(ValueError, match="^config: index.factory: got "):
        load_config(settings=["recommender.method=profile", f"index.factory={factory}"])


# The pipeline

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


@pytest.mark.parametrize("more", [
    "features.genres=10000 features.year=10000 hybrid.item_reg=.01 hybrid.prior=10000 hybrid.power=100 hybrid.rated=10000 hybrid.reg=.01 hybrid.shared=10000",
    "features.genres=1e-300 features.year=0 hybrid.item_reg=1e6 hybrid.prior=0 hybrid.rated=0 hybrid.half_life=1e-300 hybrid.n_neighbours=10000 hybrid.reg=1e6 ranking.temperature=1e-4",
    "recommender.method=ridge ridge.reg=.01 ridge.shared=10000 features.genres=10000 features.year=10000 ranking.temperature=10000",
    "recommender.method=profile profile.dislikes=10000 profile.half_life=10000 profile.by_rating=true",
    "recommender.method=profile profile.method=attention profile.temperature=.003",
    "recommender.method=two_tower two_tower.lr=1e-7 two_tower.temperature=1e-4 two_tower.n_sampled=16384 two_tower.batch_size=16384 two_tower.n_epochs=2",
])
def test_the_bounds_let_through_what_can_be_computed(more, settings):
    values = [f"{name}={'0' * value.startswith('.')}{value}" for name, _, value in (word.partition("=") for word in more.split())]
    model = Pipeline(load_config(settings=[*settings, *values])).fit()
    lists = model.recommend(model.data_.users, k=3)
    assert np.isfinite(lists[["score", "probability"]]).all(axis=None) and len(lists) == 24


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
    monkeypatch.setattr(Hybrid, "fit", lambda self, train: fits.append(train) or fit(self, train))
    model = Pipeline(load_config(settings=settings)).fit()
    report, table = model.evaluate()["hybrid, mmr"], model.frontier()
    assert len(fits) == 2 and fits[0] is model.data_
    assert report.meta["model"] == "Diversified" and report.meta["fit_s"] > 0 and report.meta["parameters"]["method"] == "mmr"
    split = PROTOCOLS["temporal"](model.data_)
    alone = evaluate(pipeline.build_model(model.config), split, "test", (3, 5))
    assert report.per_user.equals(alone.per_user) and np.array_equal(report.topk, alone.topk), "and they are what they were when each was fitted by itself"
    V = pipeline.build_encoder(model.config).fit_transform(item_text(split.train.items, model.config.text.template))
    pool = make_pool(pipeline.build_recommender(model.config, pipeline.build_encoder(model.config)), split, V, "test")
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
    configs = {name: load_config(settings=[*settings, *more]) for name, more in (("plain", []), ("far", ["hybrid.prior=0"]), ("same", []))}
    assert pipeline.differing(configs).to_dict("index") == {"hybrid.prior": {"plain": .8, "far": 0, "same": .8}}
    reports, tested = pipeline.compare_configs(configs)
    assert list(reports) == list(configs) and len(tested) == 3
    assert reports["plain"].summary.equals(reports["same"].summary) and tested.difference.iloc[1] == 0
    with pytest.raises(ValueError, match=r"plain, other differ in evaluation.k \(\[3, 5\], \[4\]\)"):
        pipeline.differing({"plain": configs["plain"], "other": load_config(settings=[*settings, "evaluation.k=[4]"])})


@pytest.mark.parametrize("value, kept", [("auto", None), ("off", False), ("some/folder", "some/folder")])
def test_the_cache_folder_reaches_the_encoder(value, kept):
    model = pipeline.build_model(load_config(settings=[f"encoder.cache_dir={value}", "encoder.max_length=9"]))
    assert model.encoder.cache_dir == kept and model.encoder.max_length == 9 and clone(model).encoder.cache_dir == kept


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
    with pytest.raises(ValueError, match="output: got '.xlsx'; accepted are '.parquet', '.csv'"):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "lists.xlsx")
    assert not list(tmp_path.iterdir())
