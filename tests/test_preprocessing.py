"""Cleaning takes away what is certainly no text, and a template copes with whatever is missing."""
import unicodedata

import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from llmrec.data.dataset import make_dataset
from llmrec.data.text import TEMPLATE, clean_items, clean_text, item_text, text_words


@pytest.mark.parametrize("text, clean", [
    ("Ame\u0301lie", "Amélie"), ("Tom &amp; Jerry", "Tom & Jerry"), ("<i>Se7en</i><br/>", "Se7en"), ("a<br>b", "a b"),
    ("a\0b\tc\n d\u3000e", "a b c d e"), (" \n ", ""), ('<A HREF="x">b</A><hr />', "b"), ("&#233;&#xe9;&eacute;", "ééé"), ("the tag &lt;i&gt;", "the tag <i>"),
    ("&amp;lt;i&amp;gt;", "&lt;i&gt;"), ("a\u2060b\u200e\u202ac\u202c\u2066d\u2069\u180e&shy;&ZeroWidthSpace;", "abcd"),
])
def test_what_is_no_text_goes(text, clean):
    assert clean_text(text) == clean


@pytest.mark.parametrize("text", ["", "Mission <Impossible>", "Sun&times", "AT&T; R&D", "&notit; &#xyz;", "<3 <items>", "می\u200cخواهم", "1 < 2 > 0", "I <3 you", "WALL·E", "花样年华", "नमस्ते", "مرحبا", "👩‍🚀", "🩷", "\U00031350", "x" * 100_000, "<" * 100_000])
def test_all_else_stays(text):
    assert clean_text(text) == text, "also what is newer than this Python's Unicode tables"


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_characters="&<>")))
def test_cleaning_twice_changes_nothing_more(text):
    clean = clean_text(text)
    assert clean_text(clean) == clean == unicodedata.normalize("NFC", clean) == " ".join(clean.split())
    kept = [c for c in unicodedata.normalize("NFC", text) if unicodedata.category(c)[0] in "LMNPS"]
    assert [c for c in clean if unicodedata.category(c)[0] in "LMNPS"] == kept, "no letter, mark, digit, punctuation or symbol is lost"


def test_clean_items_counts_and_leaves_its_input():
    films = {"title": ["<b>A</b>", "B", "C  D"], "description": ["&lt;", "", "x"]}
    data = make_dataset(pd.DataFrame({"user_id": 1, "item_id": [1, 2, 3], **films}))
    before = data.items.copy()
    clean = clean_items(data)
    assert clean.items.title.tolist() == ["A", "B", "C D"] and clean.items.description.tolist() == ["<", "", "x"]
    assert clean.notes == (*data.notes, "2 items with an unclean title: cleaned", "1 items with an unclean description: cleaned")
    pd.testing.assert_frame_equal(data.items, before)
    assert clean.interactions is data.interactions and clean.users is data.users
    assert clean_items(clean).notes == clean.notes


@pytest.mark.parametrize("text, words", [
    ("The Two Towers!", ["towers"]), ("Schindler's List, Alice’s", ["schindler", "list", "alice"]), ("花样年华", ["花样年华"]), ("नमस्ते", ["नमस्ते"]), ("Amélie", ["amélie"]),
    ("snake_case & 12", ["snake", "case", "12"]), ("To be or not to be", []), ("", []), ("***", []),
])
def test_words_for_counting(text, words):
    assert text_words(text) == words


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_characters="'’")))
def test_words_lose_only_special_characters(text):
    words = text_words(text, frozenset())
    assert "".join(words) == "".join(c for c in text.casefold() if unicodedata.category(c)[0] in "LMN")
    assert text_words(" ".join(words), frozenset()) == [w for word in words for w in word.casefold().split()]


def test_words_of_no_text_are_refused():
    with pytest.raises(TypeError, match="text: got nan"):
        text_words(float("nan"))


FILMS = pd.DataFrame({"title": ["Ikiru", "Ran", "", "", "...And God Spoke", "[REC] {x}"],
                      "year": pd.array([1952, None, 1990, None, 1993, 2007], "Int64"),
                      "genres": ["Drama|Film-Noir", "", "Comedy", "", "Comedy", "Horror"]})


@pytest.mark.parametrize("template, texts", [
    (TEMPLATE, ["Ikiru (1952). Genres: Drama, Film-Noir", "Ran", "(1990). Genres: Comedy", "", "...And God Spoke (1993). Genres: Comedy",
                "[REC] {x} (2007). Genres: Horror"]),
    ("{title}", ["Ikiru", "Ran", "", "", "...And God Spoke", "[REC] {x}"]),
    ("Film: {title}[, {genres} of {year}]", ["Film: Ikiru, Drama, Film-Noir of 1952", "Film: Ran", "Film: , Comedy of 1990", "",
                                            "Film: ...And God Spoke, Comedy of 1993", "Film: [REC] {x}, Horror of 2007"]),
    ("{title}[ {description}]", ["Ikiru", "Ran", "", "", "...And God Spoke", "[REC] {x}"]),
    ("[{year}. ]{title}", ["1952. Ikiru", "Ran", "1990. ", "", "1993. ...And God Spoke", "2007. [REC] {x}"]),
])
def test_item_text(template, texts):
    before = FILMS.copy()
    assert item_text(FILMS, template) == texts
    assert item_text(FILMS.set_axis([0] * 6), template) == texts, "labels do not matter"
    pd.testing.assert_frame_equal(FILMS, before)


def test_whole_numbers_are_written_without_a_point_and_only_the_template_loses_its_beginning():
    films = pd.DataFrame({"title": ["Se7en", None, None, 1984.0], "year": [1995.0, None, 1990, 1956], "description": ["", "...and then? ", None, ".5 miles"]})
    assert item_text(films, "{title}[ ({year})][. {description}]") == ["Se7en (1995)", "...and then? ", "(1990)", "1984 (1956). .5 miles"]
    assert item_text(films, "A film called {title}") == ["A film called Se7en", "", "", "A film called 1984"]


def test_every_film_has_its_title_year_and_genres_in_its_text(movielens):
    films, texts = movielens.items, item_text(movielens.items)
    assert len(texts) == movielens.n_items and sum(text == "" for text in texts) == 2
    assert [t for t, text in zip(films.title, texts) if not text.startswith(t)] == []
    assert [y for y, text in zip(films.year, texts) if not pd.isna(y) and f"({y})" not in text] == []
    assert [g for g, text in zip(films.genres, texts) if not text.endswith(g.replace("|", ", "))] == []
    assert item_text(films[:0]) == [] and item_text(films[["title"]]) == films.title.tolist()


@pytest.mark.parametrize("template, message", [
    ("{title} {stars}", "'stars'; fields are title, genres, year, description"), ("{}", "''"), ("{title.upper}", "'title.upper'"),
    ("{title}]", "stray bracket"), ("[{title}", "stray bracket"), ("[[{title}]]", "stray bracket"), ("{title", "not well formed"),
    ("{title!x}", ""), ("{year:d}", ""), ("", ""), ("no field", ""),
])
def test_faulty_templates_are_refused(template, message):
    with pytest.raises(ValueError, match=f"template.*{message}"):
        item_text(FILMS, template)


def test_items_without_any_field_are_refused():
    with pytest.raises(ValueError, match=r"items: .*\['title', 'year', 'genres'\].*\['name'\]"):
        item_text(pd.DataFrame({"name": ["Ikiru"]}))
