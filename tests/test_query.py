"""Questions in plain words: what the rules read, what is found, and what is refused; with films and without."""
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec import Query, answer_query, parse_query
from llmrec.generation.query import category_names, category_prompts, find_titles, find_years, rate_categories, title_index
from tests import worlds

FILMS = pd.DataFrame([
    (1, "Matrix, The", 1999, "Action|Sci-Fi"), (2, "Amelie (Fabuleux destin d'Amélie Poulain, Le)", 2001, "Comedy|Romance"), (3, "Titanic", 1997, "Drama|Romance"),
    (4, "Titanic", 1953, "Drama"), (5, "Seven (a.k.a. Se7en)", 1995, "Thriller"), (6, "Up", 2009, "Animation|Children"), (7, "M*A*S*H (a.k.a. MASH)", 1970, "Comedy|War"),
    (8, "*batteries not included", 1987, "Comedy|Sci-Fi"), (9, "War", 2007, "Action"), (10, "Lost in Translation", 2003, "Drama"), (11, "What's Up, Doc?", 1972, "Comedy"),
    (12, "Old & Quiet", None, "Documentary|Musical"), (13, "Chicago", 2002, "Musical|Film-Noir")], columns=["item_id", "title", "year", "genres"]).astype({"year": "Int64"})


class Letters:
    """An encoder without a model: letters are counted."""
    def transform(self, texts):
        return np.array([[text.casefold().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], "float32") + 1e-3


class Asked:
    """A generator that finds what it is told to more likely after a question than after "anything"."""
    def __init__(self, answer): self.answer, self.prompts = answer, []

    def score(self, prompts, options):
        self.prompts += prompts
        return [np.array([5. * (option == f" {self.answer}" and "anything" not in prompt.split("Request:")[-1]) for option in options]) for prompt in prompts]


def read(question, items=FILMS):
    return parse_query(question, items)


@pytest.mark.parametrize("name, ids", [
    ("the matrix", (1,)), ("Matrix", (1,)), ("*The Matrix*", (1,)), ('"MATRIX, THE"', (1,)), ("“The Matrix”", (1,)), ("'The Matrix'", (1,)), ("amelie", (2,)), ("Amélie", (2,)),
    ("Le Fabuleux destin d'Amelie Poulain", (2,)), ("titanic", (3, 4)), ("Titanic (1953)", (4,)), ("Titanic from 1997", (3,)), ("se7en", (5,)), ("Seven", (5,)), ("Up", (6,)),
    ("M*A*S*H", (7,)), ("MASH", (7,)), ("*batteries not included", (8,)), ("“War”", (9,)), ("what's up, doc?", (11,)), ("what’s up doc", (11,)), ("Old and Quiet", (12,)),
    ("The Matrix and Titanic", (1, 3, 4)), ("Seven, Amelie or Chicago", (2, 5, 13)),
])
def test_titles_are_found_however_they_are_written(name, ids):
    assert read(f"something like {name}").like == ids


@pytest.mark.parametrize("question", ["something to cheer me up", "a war film", "seven comedies", "I like war", "what is up"])
def test_common_words_are_no_titles(question):
    assert read(question).like == ()


def test_a_name_that_no_item_bears_is_said():
    query = read('like "The Zorblax Chronicles", but funny')
    assert query.unknown == ("The Zorblax Chronicles",)
    found = answer_query(query, FILMS, np.eye(13))
    assert not len(found) and "Nothing like that here" in found.attrs["answer"] and "Zorblax" in found.attrs["answer"]


@pytest.mark.parametrize("text, years", [
    ("a comedy from the 1980s", (1980, 1989)), ("the '80s", (1980, 1989)), ("80s action", (1980, 1989)), ("the eighties", (1980, 1989)), ("the 2010s", (2010, 2019)), ("the 10s", (2010, 2019)),
    ("before 1950", (None, 1949)), ("before the nineties", (None, 1989)), ("until 1950", (None, 1950)), ("older than 1980", (None, 1979)), ("after 2005", (2006, None)), ("after the 1960s", (1970, None)),
    ("since 2005", (2005, None)), ("since the sixties", (1960, None)), ("between 1970 and 1975", (1970, 1975)), ("from 1970 to 1975", (1970, 1975)), ("from the sixties to the eighties", (1960, 1989)),
    ("in 1994", (1994, 1994)), ("1994", (1994, 1994)), ("after 1960 and before 1970", (1961, 1969)), ("100 dalmatians", (None, None)), ("12345", (None, None)),
])
def test_years_are_read(text, years):
    assert find_years(text)[1:] == years


@pytest.mark.parametrize("question, wanted, unwanted", [
    ("comedies", ("Comedy",), ()), ("a romantic drama", ("Drama", "Romance"), ()), ("sci-fi", ("Sci-Fi",), ()), ("SCI FI", ("Sci-Fi",), ()), ("film noir", ("Film-Noir",), ()),
    ("a film for children that is not a musical", ("Children",), ("Musical",)), ("a drama without war or comedy", ("Drama",), ("Comedy", "War")), ("anything but a drama", (), ("Drama",)),
    ("drama, but no comedy", ("Drama",), ("Comedy",)), ("not a drama but a comedy", ("Comedy",), ("Drama",)), ("it isn't a comedy", (), ("Comedy",)), ("no comedy, a drama", ("Drama",), ("Comedy",)),
    ("comedy and no comedy", (), ("Comedy",)), ("warm", (), ()),
])
def test_categories_are_read(question, wanted, unwanted):
    assert read(question)[:2] == (wanted, unwanted)


@pytest.mark.parametrize("question, expected", [
    ("something quiet like *Lost in Translation*, but older", Query(last=2002, like=(10,), words="quiet")),
    ("a drama older than Titanic", Query(("Drama",), last=1952)), ("newer than Titanic", Query(first=1998)), ("like Titanic, but newer", Query(first=1998, like=(3, 4))),
    ("a comedy made before The Matrix", Query(("Comedy",), last=1998)), ("older than *Old & Quiet*", Query()), ("sad, nothing scary", Query(words="sad", without="scary")),
])
def test_a_question_becomes_a_query(question, expected):
    assert read(question) == expected


def test_what_is_found_meets_the_constraints_and_says_so():
    found = answer_query(read("a comedy like Titanic, older than 1990, no war"), FILMS, np.eye(13) + .1)
    assert found.item_id.tolist() and set(found.item_id) <= {8, 11} and found.why.str.contains("Comedy, not War, until 1989").all()
    assert found.why.str.contains("Titanic (1997), Titanic (1953)", regex=False).all() and found.score.is_monotonic_decreasing


def test_the_named_items_are_no_answers_and_the_nearest_come_first():
    vectors = np.eye(13)
    vectors[4] = vectors[0] + .1 * vectors[4]
    found = answer_query(read("like The Matrix"), FILMS, vectors, k=3)
    assert found.item_id.iloc[0] == 5 and 1 not in set(found.item_id) and len(found) == 3


def test_an_item_without_a_year_answers_no_question_about_years():
    assert 12 not in set(answer_query(read("since 1900"), FILMS, np.eye(13), k=13).item_id)


@pytest.mark.parametrize("question", ["a western", "a musical from the twenties", "war in the sci-fi of 1950"])
def test_where_nothing_fits_nothing_is_found(question):
    found = answer_query(read(question)._replace(words=""), FILMS.assign(genres=FILMS.genres + "|Western").iloc[:0] if "western" in question else FILMS, np.eye(13)[:0 if "western" in question else 13])
    assert not len(found) and found.attrs["answer"].startswith("Nothing like that here")
    assert list(found) == ["item_id", "title", "year", "score", "why"]


def test_a_shop_is_asked_as_well(tmp_path):
    items = worlds.items(np.random.default_rng(0), "sku")
    assert category_names(items) == ["chairs", "home", "lamps", "rugs", "shelves"]
    query = parse_query("a lamp or something like *rug no. 1*, no shelves, from 1990", items)
    assert query[:5] == (("lamps",), ("shelves",), None, None, ("sku-001",))
    found = answer_query(query, items, Letters().transform(items.title), encoder=Letters())
    assert len(found) == 10 and found.title.str.startswith("lamp").all() and found.year.isna().all()


def test_items_without_titles_and_categories():
    items = pd.DataFrame({"item_id": [1, 2]})
    query = parse_query("a red lamp", items, encoder=Letters())
    assert query == Query(words="red lamp") and len(answer_query(query, items, Letters().transform(["red lamp", "blue"]), encoder=Letters())) == 2


def test_a_generator_names_the_category_that_words_mean():
    generator = Asked("Thriller")
    assert parse_query("something scary", FILMS, generator).wanted == ("Thriller",)
    assert parse_query("nothing scary", FILMS, generator).unwanted == ("Thriller",)
    assert parse_query("a scary comedy", FILMS, generator).wanted == ("Comedy",)
    assert parse_query("something scary", FILMS, Asked("none of them")).wanted == ()
    assert all(prompt.count("Request:") == len(category_names(FILMS[FILMS.genres.isin(category_names(FILMS))])) + 1 for prompt in generator.prompts)


def test_examples_come_from_the_catalogue():
    prompt = category_prompts(FILMS, ["scary"])[0]
    assert "Request: Titanic\nCategory: Drama\n" in prompt and prompt.endswith("Request: scary\nCategory:")


def test_an_encoder_names_the_category_or_says_that_words_mean_nothing():
    assert parse_query("mockumentary", FILMS, encoder=Letters()).wanted == ("Documentary",)

    class Far(Letters):
        def transform(self, texts): return np.eye(len(texts) + 1, dtype="float32")[:len(texts)]
    assert parse_query("onion soup", FILMS, encoder=Far()).unknown == ("onion soup",)
    assert parse_query("onion soup since 1990", FILMS, encoder=Far()) == Query(first=1990, words="onion soup")
    assert rate_categories("onion", FILMS, Far()).tolist() == [0] * len(category_names(FILMS))


@given(st.text(max_size=60))
def test_any_text_is_read(text):
    question = f"a comedy {text}"
    query = parse_query(question, FILMS)
    assert isinstance(query, Query) and set(query.like) <= set(FILMS.item_id)
    answer_query(query._replace(words="", wanted=()), FILMS, np.eye(13))


@given(st.sampled_from(FILMS.item_id.tolist()), st.sampled_from(["upper", "lower", "title"]))
def test_every_marked_title_is_found(item, how):
    title = FILMS.title[FILMS.item_id == item].iloc[0].replace("*", "")
    text, keys, unknown = find_titles(f'like "{getattr(title, how)()}" please', title_index(FILMS), category_names(FILMS))
    assert not unknown and item in title_index(FILMS)[keys[0]] and "\x01" in text


@pytest.mark.parametrize("call, says", [
    (lambda: parse_query(" ", FILMS), "question: got ' '"), (lambda: parse_query(7, FILMS), "question: got 7"), (lambda: answer_query("a comedy", FILMS, np.eye(13)), "query: got 'a comedy'"),
    (lambda: answer_query(Query(), FILMS, np.eye(3)), "vectors: got 3 for 13 items"), (lambda: answer_query(Query(), FILMS, np.eye(13), k=0), "k: got 0"),
    (lambda: answer_query(Query(words="sad"), FILMS, np.eye(13), encoder=Letters()), "encoder: gives vectors of 26 numbers, and the items have 13"),
])
def test_wrong_calls_are_named(call, says):
    with pytest.raises(ValueError, match=says): call()
