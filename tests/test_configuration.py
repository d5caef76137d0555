"""The configuration: read from the signatures, checked whole before anything runs; every recommender can be named in it."""
import importlib
import inspect
import pkgutil
import re
import tomllib
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone

import llmrec
from llmrec.data.dataset import load_interactions
from llmrec.generation.generator import Generator
from llmrec.generation.reranking import GeneratorRanker
from llmrec.language.encoding import TextEncoder
from llmrec.lists.diversity import DIVERSIFIERS, Diversified
from llmrec.recommenders.base import Recommender, describe_estimator
from llmrec.tastes.hybrids import Hybrid
from llmrec.work import pipeline
from llmrec.work.configuration import (CHOICES, INSIDE, READ_IF, SAID, build_model, build_recommender, changes, config_text,
                                       find_recommenders, load_config, recommender_section, section_types)
from llmrec.work.pipeline import Pipeline, differing
from tests.tools.settings import DEFAULT, default_text

NAMES = list(find_recommenders())
SECTIONS = section_types()


# Which recommenders and which keys there are

def test_every_recommender_of_the_library_can_be_named():
    for module in pkgutil.walk_packages(llmrec.__path__, "llmrec."):
        importlib.import_module(module.name)

    def below(parent):
        for child in parent.__subclasses__():
            yield from [child, *below(child)]
    ours = {child for child in below(Recommender) if child.__module__.startswith("llmrec.")}
    bases = {parent for child in ours for parent in child.__mro__[1:] if parent.__init__ is object.__init__}
    assert {child.__name__ for child in ours - bases - {Diversified, GeneratorRanker}} == set(NAMES)
    assert {"Popularity", "Random", "ALS", "EASE", "Hybrid", "TwoStage", "SASRec", "ProfileRecommender"} < set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_are_those_of_the_class(name):
    config = load_config(settings=[f"recommender.name={name}", "diversity.method=none"])
    parameters = set(find_recommenders()[name]().get_params(deep=False))
    own = {f.name for f in fields(config.recommender)} - {"name", "rerank"}
    assert own == (parameters - {"encoder", "template"} if "encoder" in parameters else parameters), "every parameter is a key"
    built = build_model(config)
    wanted = find_recommenders()[name]()
    if "encoder" in parameters:
        wanted.set_params(encoder=TextEncoder())
    for key in INSIDE.keys() & own:
        wanted.set_params(**{key: find_recommenders()[INSIDE[key]](encoder=TextEncoder())})
    assert describe_estimator(built) == describe_estimator(wanted) and describe_estimator(clone(built)) == describe_estimator(wanted)
    assert changes(config) == {"diversity.method": "none"} | ({"recommender.name": name} if name != "Hybrid" else {})


def test_what_is_inside_is_what_the_class_takes_by_itself(movielens):
    for name, model in find_recommenders().items():
        if inside := INSIDE.keys() & inspect.signature(model).parameters:
            source = inspect.getsource(model.fit)
            assert all(f"{INSIDE[key]}() if self.{key} is None" in source for key in inside), name


def test_encoder_generator_and_data_have_every_parameter_of_theirs():
    assert {f.name for f in fields(SECTIONS["encoder"])} == set(TextEncoder().get_params()) - {"verbose"}
    assert {f.name for f in fields(SECTIONS["generator"])} == set(Generator().get_params()) - {"stop"}
    assert {f.name for f in fields(SECTIONS["data"])} == set(inspect.signature(load_interactions).parameters) - {"path"} | {"interactions"}
    assert {"like_from", "events", "item_columns"} < {f.name for f in fields(SECTIONS["data"])}


def test_the_tables_of_names_hold_only_keys_that_there_are():
    own = {f"{section}.{f.name}" for section, kind in SECTIONS.items() for f in fields(kind)}
    everywhere = own | {f"recommender.{f.name}" for name in NAMES for f in fields(recommender_section(name))}
    assert {*CHOICES, *SAID} <= own and {*READ_IF, *(key for key, _ in READ_IF.values())} <= everywhere | SECTIONS.keys()


def test_the_hybrid_made_varied_is_the_default():
    model, encoder = build_model(load_config()), TextEncoder()
    assert describe_estimator(model) == describe_estimator(Diversified(Hybrid(encoder), "mmr", encoder=encoder)) and DIVERSIFIERS["mmr"].weight == .1
    longer = build_model(load_config(settings=["ranking.k=300", "evaluation.k=[5]", "diversity.method=dpp", "diversity.weight=0.1"]))
    assert (longer.places, longer.n_candidates, longer.method, longer.weight) == (300, 300, "dpp", .1)


# The file of defaults

def test_the_file_of_defaults_is_made_from_the_signatures():
    assert DEFAULT.read_text(encoding="utf-8") == default_text(), "run python -m tests.tools.settings"
    assert load_config(DEFAULT) == load_config()


def test_the_file_of_defaults_shows_every_recommender():
    blocks = re.findall(r"(?m)^# \[recommender\]\n(?:# .*\n|\n(?=# \[recommender\.))+", DEFAULT.read_text(encoding="utf-8"))
    shown = [tomllib.loads(re.sub("(?m)^# ", "", block))["recommender"] for block in blocks]
    assert sorted([*(table["name"] for table in shown), "Hybrid"]) == NAMES
    bare = [line for line in DEFAULT.read_text(encoding="utf-8").splitlines() if re.search(r" = .*  # *$", line)]
    assert not bare, "each key has a comment"


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_that_is_written_comes_back(name, tmp_path):
    config = load_config(settings=[f"recommender.name={name}", "data.interactions=ours.csv", "data.columns={film = 'item_id'}", "ranking.temperature=1", 'encoder.prefix="a \\"b\\" \\\\ "'])
    (tmp_path / "run.toml").write_text(config_text(config), encoding="utf-8")
    assert load_config(tmp_path / "run.toml") == config


# What reaches what

def test_every_section_reaches_the_model():
    settings = ["diversity.method=none", "recommender.name=ProfileRecommender", "encoder.pooling=cls", "encoder.layer=3", "encoder.prefix=film: ", "projection.method=whiten", "projection.n_components=8",
                "recommender.half_life=20", "recommender.by_rating=true", "recommender.dislikes=0.5", "recommender.similarity=pearson", "recommender.index=HNSW32", "recommender.n_candidates=50"]
    model = build_model(load_config(settings=settings))
    assert (model.half_life, model.by_rating, model.dislikes, model.similarity) == (20, True, .5, "pearson")
    assert (model.index, model.n_candidates, model.encoder.method, model.encoder.n_components) == ("HNSW32", 50, "whiten", 8)
    assert (model.encoder.encoder.pooling, model.encoder.encoder.layer, model.encoder.encoder.prefix) == ("cls", 3, "film:")

    settings = ["diversity.method=none", "recommender.year=0.1", "recommender.half_life=none", "recommender.item_reg=7", "recommender.n_neighbours=9", "text.template={title}"]
    model = build_model(load_config(settings=settings))
    assert (model.year, model.half_life, model.item_reg, model.n_neighbours, model.template, model.encoder.model) == (.1, None, 7, 9, "{title}", "minilm")
    assert type(model.item_reg) is float, "a whole number where a number is meant"
    model = build_model(load_config(settings=["diversity.method=none", "recommender.name=TwoTower", "recommender.hidden=[256, 8]", "recommender.checkpoint=run.npz", "recommender.rng=3"]))
    assert (model.hidden, model.checkpoint, model.rng) == ((256, 8), "run.npz", 3)
    model = build_model(load_config(settings=["diversity.method=none", "recommender.name=ContentRecommender", "recommender.template={title}"]))
    assert model.template == "{title}", "a model without an encoder has a template of its own"


def test_recommenders_inside_another_have_sections_of_their_own(tmp_path):
    (tmp_path / "two.toml").write_text("[recommender]\nname = 'TwoStage'\n[recommender.retriever]\nname = 'ItemKNN'\nshrink = 3\n[recommender.ranker]\nprior = 0\n[text]\ntemplate = '{title}'")
    config = load_config(tmp_path / "two.toml", ["encoder.dtype=float32"])
    model = build_recommender(config.recommender, TextEncoder(dtype="float32"), config.text.template)
    assert type(model.retriever).__name__ == "ItemKNN" and model.retriever.shrink == 3 and model.ranker.prior == 0 and model.ranker.template == "{title}" and model.ranker.encoder.dtype == "float32"
    assert changes(config) == {"text.template": "{title}", "encoder.dtype": "float32", "recommender.name": "TwoStage", "recommender.retriever.name": "ItemKNN",
                               "recommender.retriever.shrink": 3, "recommender.ranker.prior": 0}
    for says, setting in (("recommender.ranker.prior: got -1.0; give a number of at least 0", "ranker={prior=-1}"), ("recommender.ranker.name: got 'hybird'; did you mean 'Hybrid'", "ranker={name='hybird'}"),
                          ("unknown key 'recommender.ranker.priro'; did you mean 'recommender.ranker.prior'", "ranker={priro=1}"), ("recommender.ranker: got 'ALS'; give a table that names a recommender", "ranker=ALS"),
                          ("recommender.ranker.shrink has no effect while recommender.ranker.name is 'Hybrid'; it is read by ItemKNN, UserKNN", "ranker={shrink=1}")):
        with pytest.raises(ValueError, match=f"^config: {re.escape(says)}"):
            load_config(settings=["recommender.name=TwoStage", f"recommender.{setting}"])


@pytest.mark.parametrize("value, kept", [("auto", None), ("off", False), ("some/folder", "some/folder")])
def test_the_cache_folder_reaches_the_encoder(value, kept):
    model = build_model(load_config(settings=[f"encoder.cache_dir={value}", "encoder.max_length=9"]))
    assert model.encoder.cache_dir == kept and model.encoder.max_length == 9 and clone(model).encoder.cache_dir == kept


def test_changes_are_laid_over_the_defaults(tmp_path):
    (tmp_path / "mine.toml").write_text("\ufeff[ranking]\nk = 3\ntemperature = 1\n[data]\ninteractions = 'ours.csv'\n[data.columns]\nfilm = 'item_id'\n", encoding="utf-8")
    config = load_config(tmp_path / "mine.toml", ["ranking.k=4", "ranking.k = 5", "encoder.model=some/model", "evaluation.k=[5]"])
    assert config.ranking.k == 5 and config.ranking.temperature == 1 and config.data.columns == {"film": "item_id"}
    assert config.encoder.model == "some/model" and config.evaluation.k == (5,) and config.text == load_config().text
    with pytest.raises(FrozenInstanceError):
        config.ranking.k = 6
    config.data.columns["other"] = "user_id"
    assert load_config() == load_config(settings=[]) and load_config().data.columns == {}, "the defaults belong to nobody"


def test_keys_of_data_reach_the_loader(monkeypatch):
    monkeypatch.setattr(pipeline, "load_interactions", lambda *args, **options: (args, options))
    monkeypatch.setattr(pipeline, "clean_items", lambda data: data)
    config = load_config(settings=["data.interactions=ours.csv", "data.columns={film = 'item_id'}", "data.max_rows=5", "data.like_from=7", "data.events={purchase = 1, view = 0.1}", "data.item_columns={name = 'title'}"])
    (path,), options = pipeline.load_data(config)
    assert path == "ours.csv" and set(options) == set(inspect.signature(load_interactions).parameters) - {"path"}
    assert (options["items"], options["like_from"], options["events"], options["item_columns"], options["max_rows"]) == (None, 7, {"purchase": 1, "view": .1}, {"name": "title"}, 5)
    with pytest.raises(ValueError, match="data.max_rows has no effect while data.interactions is 'movielens'"):
        load_config(settings=["data.max_rows=5"])


def test_a_configuration_is_read_where_the_gpu_is_missing():
    config = load_config(settings=["encoder.device=cuda:99"])
    with pytest.raises(ValueError, match="^config: encoder.device: got 'cuda:99'; "):
        Pipeline(config).load()


# What is refused

@pytest.mark.parametrize("text, message", [
    ("[ranking]\ntemprature = 1", "unknown key 'ranking.temprature'; did you mean 'ranking.temperature'?"),
    ("[rankin]\nk = 1", "unknown section 'rankin'; did you mean 'ranking'"), ("[rankin]", "unknown section 'rankin'; did you mean 'ranking'"),
    ("[zzz]\nq = 1", "unknown section 'zzz'; known are data, .*evaluation"), ("[ranking]\nzzz = 1", "unknown key 'ranking.zzz'; known are k, temperature"),
    ("[recommender]\nitemreg = 1", "unknown key 'recommender.itemreg'; did you mean 'recommender.item_reg'"),
    ("[recommender]\nname = 'ProfileRecommender'\ndislikes = '.5'", "recommender.dislikes: got '.5'; give a number .*, in TOML such as 0.5"),
    ("k = 3", "'k' stands outside a section"), ("ranking = 3", "'ranking' stands outside a section"), ("[[ranking]]\nk = 3", "'ranking' stands outside a section"),
    ("[ranking]\nk = '3'", "ranking.k: got '3'; give a whole number"), ("[ranking]\nk = 3.0", "ranking.k: got 3.0"),
    ("[ranking]\nk = true", "ranking.k: got True"), ("[ranking]\nk = 2026-01-01", "ranking.k: got .*2026"),
    ("[ranking]\nk = 0", "ranking.k: got 0; give a whole number from 1 to 10,000"), ("[ranking]\nk = -1", "ranking.k: got -1"),
    ("[ranking.k]\na = 1", "ranking.k: got {'a': 1}"), ("[ranking]\nk = 1_000_000_000", "ranking.k: got 1000000000"),
    ("[ranking]\ntemperature = nan", "ranking.temperature: got nan"), ("[ranking]\ntemperature = inf", "ranking.temperature: got inf"),
    ("[ranking]\ntemperature = 0", "ranking.temperature: got 0"), ("[ranking]\ntemperature = -0.1", "ranking.temperature: got -0.1"),
    ("[evaluation]\nk = []", r"evaluation.k: got \[\]; give at least one"), ("[evaluation]\nk = [10, 0]", r"evaluation.k\[1\]: got 0"),
    ("[evaluation]\nk = 10", "evaluation.k: got 10; give a list .* such as \\[10, 20\\]"),
    ("[evaluation]\nprotocol = 'tempral'", "evaluation.protocol: got 'tempral'"),
    ("[recommender]\nname = 'slim'", "recommender.name: got 'slim'; did you mean 'SLIM'"), ("[recommender]\nname = 'qqq'", "recommender.name: got 'qqq'; known are ALS, BPR"), ("[recommender]\nname = 3", "recommender.name: got 3; known are"),
    ("[recommender]\nname = 'TwoTower'\nloss = 'bce'", "recommender.loss: got 'bce'"),
    ("[recommender]\nshrink = 20", "recommender.shrink has no effect while recommender.name is 'Hybrid'; it is read by ItemKNN, UserKNN"),
    ("[recommender]\nreg = 0.0", "recommender.reg: got 0.0; give a number above 0"), ("[recommender]\nlong = 1.5", "recommender.long: got 1.5"), ("[recommender]\nhalf_life = 0", "recommender.half_life: got 0.0; give a number above 0, or 'none'"),
    ("[diversity]\nmethod = 'mrr'", "diversity.method: got 'mrr'; give one of 'none', 'random'"), ("[diversity]\nweight = 1.5", "diversity.weight: got 1.5"),
    ("[projection]\nmethod = 'center'", "projection.method: got 'center'; give one of 'none', 'centre', 'whiten'"), ("[encoder]\npooling = 'sum'", "encoder.pooling: got 'sum'"),
    ("[text]\ntemplate = '{title:10}'", "text.template: '{title:10}' has something after"),
    ("[data]\ncolumns = {a = []}", r"data.columns: got {'a': \[\]}; give a table"), ("[data]\ncolumns = 1", "data.columns: got 1; give a table"),
    ("[ranking\nk = 3", "mine.toml is not well-formed TOML: .*line 1"), ("[ranking]\nk = 1\nk = 2", "mine.toml is not well-formed TOML"),
    ("[recommender]\nname = 'ProfileRecommender'\nby_rating = 1", "recommender.by_rating: got 1; give true or false"),
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
    # no device that there could be, or nobody could compute with it
    ("encoder.device=cpu:abc", "encoder.device: got 'cpu:abc'; give 'auto', 'cpu'"), ("encoder.device=cpu:-1", "encoder.device: got 'cpu:-1'"),
    ("encoder.device=cuda:9999", "encoder.device: got 'cuda:9999'"), ("encoder.device=tpu", "encoder.device: got 'tpu'"), ("encoder.dtype=int8", "encoder.dtype: got 'int8'; give one of 'auto', 'float32'"),
    # numbers that nobody can calculate with, or the model does not take
    ("recommender.name=TwoTower recommender.lr=1e38", "recommender.lr: got 1e\\+38; give a number"), ("recommender.name=TwoTower recommender.n_sampled=10000000000000", "recommender.n_sampled: got 1" + "0" * 13),
    ("recommender.name=TwoTower recommender.hidden=[0]", "recommender.hidden: got"), ("recommender.name=TwoTower recommender.hidden=[1.5]", "recommender.hidden: got"),
    ("recommender.name=TwoTower recommender.rng=1" + "0" * 40, "recommender.rng: got 10{10,}"), ("recommender.year=1e300", "recommender.year: got 1e\\+300"),
    ("recommender.item_reg=1e-300", "recommender.item_reg: got 1e-300; give a number"), ("recommender.name=ALS recommender.reg=0", "recommender.reg: got 0.0; give a number"),
    ("encoder.layer=1000000000000000000000", "encoder.layer: got 10+; give a whole number"),
    # texts that no file system and no tokenizer takes
    ("encoder.prefix=\udcff", "encoder.prefix: got .*; give a text in quotes, of at most 1,000 characters of valid Unicode"), ("encoder.cache_dir=a\0b", "encoder.cache_dir: got .*none of them NUL"),
    ("ranking.k=" + "[" * 5000 + "]" * 5000, "ranking.k: got '\\[\\[.*; give a whole number"), ("ranking.k=0x" + "f" * 5000, "ranking.k: got a number of thousands of digits"),
    # what nothing would read
    ("evaluation.k=[10,10]", "evaluation.k: got \\[10, 10\\]; give at least one length, and each once"),
    ("projection.n_components=50", "projection.n_components has no effect while projection.method is 'none'; change that too, or leave projection.n_components out"),
    ("data.items=films.csv", "data.items has no effect while data.interactions is 'movielens'"), ("data.columns={film='item_id'}", "data.columns has no effect while data.interactions is 'movielens'"),
    ("data.like_from=7", "data.like_from has no effect"), ("recommender.name=ProfileRecommender recommender.n_candidates=9", "recommender.n_candidates has no effect while recommender.index is ''"),
    ("recommender.name=TwoTower recommender.loss=full recommender.n_sampled=9", "recommender.n_sampled has no effect while recommender.loss is 'full'"),
    # what an index dies of
    *[(f"recommender.name=ProfileRecommender recommender.index={factory}", "recommender.index: got ") for factory in ("HNSW0", "HNSW1", "IVF4_HNSW0,Flat", "IVF0,Flat", "PQ64x24", "a[/b]")],
], ids=lambda value: value[:60].encode("ascii", "replace").decode().replace("\0", "0"))
def test_what_cannot_be_used_is_refused_before_data_are_loaded(settings, message):
    with pytest.raises(ValueError, match=f"^config: {message}") as error:
        load_config(settings=settings.split())
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 400


NUMBERS = [(name, f.name) for name in NAMES for f in fields(recommender_section(name)) if type(getattr(recommender_section(name)(), f.name)) in (int, float)]


@pytest.mark.parametrize("name, key", NUMBERS)
def test_no_number_is_out_of_all_bounds_or_of_another_type(name, key):
    for value in ("-1e300", "1e300", "nan", "inf", str(10**40), "true", "'1'", "[1]"):
        with pytest.raises(ValueError, match=f"config: recommender.{key}: got .*; give a (whole )?number"):
            load_config(settings=[f"recommender.name={name}", f"recommender.{key}={value}"])


@pytest.mark.parametrize("setting", ["", "=", "ranking.k", "ranking=3", ".k=3", "ranking.=3", "ranking.k=3\nk=4"])
def test_a_setting_of_another_form_is_refused(setting):
    with pytest.raises(ValueError, match="^set: got .*; write section.key=value$"):
        load_config(settings=[setting])


def test_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path / "nowhere.toml", tmp_path, str(tmp_path), ""):
        with pytest.raises(FileNotFoundError, match="^config: there is no file"):
            load_config(path)


def test_what_two_configurations_differ_in():
    hybrid, knn = load_config(settings=["recommender.prior=0.5"]), load_config(settings=["recommender.name=ItemKNN", "recommender.shrink=3"])
    assert differing({"a": hybrid, "b": knn}).to_dict("index") == {"recommender.prior": {"a": .5, "b": ""}, "recommender.name": {"a": "Hybrid", "b": "ItemKNN"}, "recommender.shrink": {"a": "", "b": 3}}
    assert not len(differing({"a": hybrid, "b": hybrid}))
    with pytest.raises(ValueError, match="a, b differ in data.interactions"):
        differing({"a": hybrid, "b": load_config(settings=["data.interactions=ours.csv"])})


# Every recommender in a pipeline

class FewNumbers(BaseEstimator):
    """An encoder that needs no model: letters counted."""
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        V = np.array([[text.lower().count(letter) for letter in "aeioubcdfgst"] for text in X], "float32") + .01
        return V / np.linalg.norm(V, axis=1, keepdims=True)

    def fit_transform(self, X, y=None):
        return self.transform(X)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The path of 30 films that 12 people have rated."""
    path, rng = tmp_path_factory.mktemp("shop") / "films.csv", np.random.default_rng(0)
    words = ["night", "river", "dog", "castle", "guitar", "moon", "taxi", "bread", "ice", "fog"]
    rows = [(f"u{user}", item, 3 + place % 3, place, f"{words[item % 10]} {words[(item * 7 + 3) % 10]} {item}", 1990 + item, "Drama|War" if item % 2 else "Comedy")
            for user in range(12) for place, item in enumerate(rng.permutation(30)[:14])]
    pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp", "title", "year", "genres"]).to_csv(path, index=False)
    return path


def fast(name):
    """Settings with which a recommender trains in a moment on a small shop."""
    section = recommender_section(name)()
    small = {"n_epochs": 2, "n_iter": 2, "n_factors": 4, "d": 4, "length": 8}
    return [f"recommender.name={name}", *(f"recommender.{key}={value}" for key, value in small.items() if hasattr(section, key))]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_recommender_recommends_by_its_name(name, shop, monkeypatch):
    monkeypatch.setattr("llmrec.work.configuration.build_encoder", lambda config, verbose=False: FewNumbers())
    lists = Pipeline(load_config(settings=[f"data.interactions={shop}", *fast(name)])).fit().recommend(["u1", "u2"], k=3)
    assert len(lists) == 6 and np.isfinite(lists.score).all() and {"title", "year", "genres"} < set(lists)


@pytest.mark.parametrize("name, key", [(name, key) for name, key in NUMBERS if key not in ("rng", "d", "n_factors", "n_epochs", "n_iter")])
@pytest.mark.filterwarnings("ignore")
def test_a_number_on_the_edge_is_computed_with_or_refused_with_its_key(name, key, shop, monkeypatch):
    monkeypatch.setattr("llmrec.work.configuration.build_encoder", lambda config, verbose=False: FewNumbers())
    whole = type(getattr(recommender_section(name)(), key)) is int
    for value in (-1, 0, 30) if whole else (-1, 0, 1e-9, 1e9):
        try:
            lists = Pipeline(load_config(settings=[f"data.interactions={shop}", *fast(name), f"recommender.{key}={value}"])).fit().recommend("u1", k=3)
        except ValueError as error:
            assert re.match(rf"config: recommender\.{key}: got|.*(NaN|infinit|finite|diverge|Singular|has no effect)", str(error)), (value, str(error))
        else:
            assert np.isfinite(lists.score).all(), value
