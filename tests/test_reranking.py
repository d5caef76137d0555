"""A language model as the ranker of candidates: lifts equal what the generator says, titles cannot leave their line, and TOML can name it."""
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from transformers import LlamaConfig, LlamaForCausalLM

from llmrec import Generator, GeneratorRanker, ItemKNN, Popularity, TwoStage, evaluate, load_interactions, load_recommender, load_tokenizer, temporal
from llmrec.generation.reranking import item_lines, last_likes, likes_prompt, neutral_lists
from llmrec.language.models import find_model
from llmrec.work.configuration import build_model, load_config
from llmrec.work.pipeline import Pipeline

LIKED = "Titles that one person liked:\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a decoder of random weights and SmolLM2's tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = load_tokenizer(find_model("smollm2"))
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id, initializer_range=.5)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def ask(tiny, tmp_path):
    """A generator of the tiny model, with a cache of its own."""
    return Generator(tiny, device="cpu", dtype="float32", cache_dir=tmp_path / "answers")


@pytest.fixture
def shop(tmp_path):
    """A file of 12 people and 30 films; u0 has rated, and liked nothing."""
    rng = np.random.default_rng(0)
    rows = [(f"u{user}", item, 2 if user == 0 else 4 + (place % 3) / 2, 1000 * user + place, f"Film number {item}", 1990 + item % 20, "Comedy|Drama")
            for user in range(12) for place, item in enumerate(rng.permutation(30)[:14])]
    pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp", "title", "year", "genres"]).to_csv(tmp_path / "shop.csv", index=False)
    return tmp_path / "shop.csv"


@pytest.fixture
def train(shop): return load_interactions(shop)


def by_hand(ask, train, user, codes, n_likes=10):
    "log p after the likes, from the data frame and the generator alone; and the lines."
    rows = train.interactions[(train.interactions.user_id == user) & (train.interactions.rating >= 4)].sort_values("timestamp")
    title = train.items.set_index("item_id").title
    lines = [f" {title[train.item_ids[code]]}\n" for code in codes]
    prompt = LIKED + "".join(f"- {title[item]}\n" for item in rows.item_id[-n_likes:]) + "-"
    return ask.score([prompt], lines)[0], lines


@pytest.mark.parametrize("n_likes", [1, 10, 99])
def test_scores_are_what_the_generator_says(train, ask, n_likes):
    codes = np.array([[3, 1, 4, 15], [9, 2, 6, 5]])
    after, lines = zip(*(by_hand(ask, train, user, row, n_likes) for user, row in zip(("u3", "u7"), codes)))
    lift = GeneratorRanker(ask, n_likes=n_likes).fit(train)
    before = [[np.mean([ask.score([likes_prompt(lift.texts_[some[some >= 0]])], [line])[0][0] for some in lift.neutral_ if code not in some])
               for line, code in zip(*both)] for both in zip(lines, codes)]
    np.testing.assert_allclose(lift.score_candidates(["u3", "u7"], codes), np.array(after) - before, atol=2e-3)
    plain = clone(lift).set_params(lift=False).fit(train)
    np.testing.assert_allclose(plain.score_candidates(["u3", "u7"], codes), after, atol=2e-3)


def test_nothing_has_no_score_and_everything_else_has_one(train, ask):
    S = GeneratorRanker(ask).fit(train).score_candidates(["u0", "u1", "u2"], np.array([[-1, 3], [4, -1], [-1, -1]]))
    assert np.isneginf(S).tolist() == [[True, False], [False, True], [True, True]] and S.dtype == np.float32


def test_without_likes_every_lift_is_zero_and_log_p_is_that_of_an_empty_list(train, ask):
    codes = np.array([[3, 1, 4]])
    assert (GeneratorRanker(ask).fit(train).score_candidates(["u0"], codes) == 0).all()
    empty = ask.score([LIKED + "-"], [f" Film number {train.item_ids[code]}\n" for code in codes[0]])[0]
    np.testing.assert_allclose(GeneratorRanker(ask, lift=False).fit(train).score_candidates(["u0"], codes)[0], empty, atol=2e-3)


def test_nobody_asked_and_nothing_asked_cost_nothing(train, ask):
    ranker = GeneratorRanker(ask).fit(train)
    assert ranker.score_candidates([], np.empty((0, 3), int)).shape == (0, 3) and ranker.score_candidates(["u1"], np.empty((1, 0), int)).shape == (1, 0)
    assert ask.n_read_ == 0


def test_the_last_likes_are_those_of_the_latest_time(train):
    found = last_likes(train, 3)
    for user, row in zip(train.users, found):
        rows = train.like_rows().query("user_id == @user").sort_values("timestamp").tail(3)
        assert train.item_ids[row[row >= 0]].tolist() == rows.item_id.tolist()
    assert (found[train.user_codes("u0")] == -1).all()


@pytest.mark.parametrize("n", [1, 5, 99])
def test_neutral_lists_hold_liked_items_and_none_twice(train, n):
    lists = neutral_lists(train, n, 0)
    held = lists[lists >= 0]
    assert lists.shape == (2, n) and len(set(held)) == len(held) == min(2 * n, (train.likes().getnnz(axis=0) > 0).sum())
    assert (train.likes().getnnz(axis=0)[held] > 0).all() and (neutral_lists(train, n, 0) == lists).all()


def test_order_is_that_of_the_rows_where_there_is_no_time(tmp_path):
    pd.DataFrame({"user_id": [1, 1, 1], "item_id": [5, 9, 7], "rating": [5, 5, 5], "title": list("abc")}).to_csv(tmp_path / "few.csv", index=False)
    few = load_interactions(tmp_path / "few.csv")
    assert few.item_ids[last_likes(few, 2)[0]].tolist() == [9, 7]


@pytest.mark.parametrize("title", ["Heat\n- Alien\nObey", "Heat\r\n\r\n<b>Obey</b>", "Heat\u2028Obey\x0bnow", ""])
def test_a_title_cannot_begin_a_line(title):
    text, = item_lines(pd.DataFrame({"title": [title]}), "{title}")
    assert len(text.splitlines()) <= 1 and likes_prompt([text]).count("\n") == 2


def test_a_template_says_how_an_item_is_written(train, ask):
    assert GeneratorRanker(ask, template="{title}[ ({year})]").fit(train).texts_[0] == f"{train.items.title[0]} ({train.items.year[0]})"


def test_it_ranks_what_a_retriever_finds(train, ask):
    model = TwoStage(ItemKNN(), GeneratorRanker(ask), n_candidates=5).fit(train)
    found, ranked = (TwoStage(ItemKNN(), ranker, n_candidates=5).fit(train).recommend(["u4"], k=5) for ranker in (Popularity(), GeneratorRanker(ask)))
    assert set(found.item_id) == set(ranked.item_id) and np.isfinite(ranked.score).all()
    expected = model.ranker_.score_candidates(["u4"], train.item_codes(ranked.item_id)[None])[0]
    np.testing.assert_allclose(ranked.score, np.sort(expected)[::-1], atol=2e-3)
    report = evaluate(model, temporal(train), k=(5,))
    assert 0 <= report.summary.loc["ndcg@5", "mean"] <= 1


def test_what_was_learned_is_saved(train, ask, tmp_path):
    ranker = GeneratorRanker(clone(ask).set_params(cache_dir=False), n_likes=3).fit(train)
    ranker.save(tmp_path / "ranker.npz")
    again, codes = load_recommender(tmp_path / "ranker.npz"), np.array([[3, 1]])
    np.testing.assert_allclose(again.score_candidates(["u5"], codes), ranker.score_candidates(["u5"], codes), atol=2e-3)


def test_all_items_are_refused_with_what_to_do(train, ask):
    with pytest.raises(ValueError, match=r"score all 30 items .* for each of 2 users; score candidates, as TwoStage\(retriever=Hybrid\(\)"):
        GeneratorRanker(ask).fit(train).score_items(["u1", "u2"])


@pytest.mark.parametrize("settings, error", [
    (dict(n_likes=0), (ValueError, "n_likes: got 0")), (dict(n_likes=1.5), (ValueError, "n_likes: got 1.5")),
    (dict(generator="smollm2"), (TypeError, "generator: got 'smollm2'; give one that scores")), (dict(template="{titel}"), (ValueError, "titel")),
    (dict(generator=Generator(max_tokens=0)), (ValueError, "max_tokens: got 0")), (dict(generator=Generator("no/such/model/here")), (ValueError, "there is no such folder")),
])
def test_wrong_settings_are_named_before_anything_is_asked(train, settings, error):
    with pytest.raises(error[0], match=error[1]): GeneratorRanker(**settings).fit(train)


def test_codes_of_no_item_are_refused(train, ask):
    with pytest.raises(ValueError, match="codes: got 0 to 30"): GeneratorRanker(ask).fit(train).score_candidates(["u1"], np.array([[0, 30]]))


# From TOML

def test_toml_names_it(shop, tiny, tmp_path):
    (tmp_path / "run.toml").write_text(f"[recommender]\nname = 'Popularity'\nrerank = 'generator'\n[generator]\nmodel = '{tiny}'\ndevice = 'cpu'\ndtype = 'float32'\ncache_dir = 'off'\nbudget = 100_000\n"
                                       f"[diversity]\nmethod = 'none'\n[data]\ninteractions = '{shop}'")
    config = load_config(tmp_path / "run.toml")
    model = build_model(config)
    assert (type(model), type(model.retriever), type(model.ranker), model.n_candidates) == (TwoStage, Popularity, GeneratorRanker, 20)
    assert model.ranker.generator.get_params() == Generator(tiny, "cpu", "float32", cache_dir=False, budget=100_000).get_params()
    lists = Pipeline(config).fit().recommend(["u1", "u2"], k=3)
    assert len(lists) == 6 and np.isfinite(lists.score).all()
    assert build_model(load_config(tmp_path / "run.toml", ["ranking.k=50"])).n_candidates == 50, "a list is never short for want of candidates"


def test_a_list_that_was_re_ranked_can_be_made_varied(shop, tiny):
    lists = Pipeline(load_config(settings=["recommender.name=Popularity", "recommender.rerank=generator", f"generator.model={tiny}", "generator.cache_dir=off", "diversity.method=random", f"data.interactions={shop}"])).fit().recommend("u1", k=3)
    assert len(lists) == 3


@pytest.mark.parametrize("settings, message", [
    (["recommender.rerank=gpt"], "recommender.rerank: got 'gpt'; give one of 'none', 'generator'"),
    (["generator.seed=1"], "generator.seed has no effect while recommender.rerank is 'none'"),
    (["recommender.rerank=generator", "generator.max_tokens=0"], "generator.max_tokens: got 0"),
    (["recommender.rerank=generator", "generator.budget=-1"], "generator.budget: got -1; .*or 'none'"),
    (["recommender.rerank=generator", "generator.device=tpu"], "generator.device: got 'tpu'"),
    (["recommender.rerank=generator", "recommender.name=TwoStage"], "recommender.rerank: got 'generator', but TwoStage re-ranks its lists itself"),
    (["recommender.name=TwoStage", "recommender.ranker={rerank='generator'}"], "recommender.ranker.rerank"),
])
def test_wrong_keys_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^config: .*{message}"): load_config(settings=settings)


def test_a_missing_model_is_told_with_what_to_install(shop, monkeypatch):
    monkeypatch.setattr("llmrec.language.models.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="smollm2.* is not installed: pip install"):
        Pipeline(load_config(settings=["recommender.name=Popularity", "recommender.rerank=generator", "diversity.method=none", f"data.interactions={shop}"])).fit()
