import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitstore.search import fold, snippet, terms, words
from gitstore.search.words import _remembered


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Café", "CAFE\u0301"),
        ("Straße", "STRASSE"),
        ("ﬁle", "FILE"),
        ("Øre", "ore"),
        ("İstanbul", "istanbul"),
        ("Łódź", "lodz"),
        ("ＡＢＣ１", "abc1"),
        ("ΟΔΟΣ", "οδός"),
        ("Ёлка", "елка"),
    ],
)
def test_case_and_diacritics_do_not_matter(one, other):
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), [("か", "が"), ("कि", "की"), ("한", "할")])
def test_marks_that_make_another_letter_matter(one, other):
    assert fold(one) != fold(other)


def test_words_end_at_anything_but_letters_and_digits():
    assert words("docs/release_notes-v2.10, (final)") == ("docs", "release", "notes", "v2", "10", "final")
    assert words("हिन्दी में") == ("हिन्दी", "में")
    assert words("*** && ()") == ()


def test_scripts_without_spaces_are_found_by_any_part():
    assert words("東") == ("東",)
    assert set(words("京都の")) <= terms("昨日は京都の雨")
    assert not set(words("都京")) <= terms("昨日は京都の雨")
    assert {"report", "東京"} <= terms("report東京")


@given(st.text())
def test_a_text_is_found_by_itself(text):
    assert set(words(text)) <= terms(text)
    assert all(term and " " not in term and len(term) <= 64 for term in terms(text))


@given(st.text(), st.text())
def test_a_part_between_blanks_is_found(one, other):
    assert set(words(other)) <= terms(f"{one} {other} {one}")


def shown(passage):
    return re.findall(r"<mark>(.*?)</mark>", passage)


def test_a_snippet_marks_the_words_as_they_were_written():
    passage = snippet("We drank Café au lait in ÉVREUX.", frozenset(words("cafe evreux")))
    assert shown(passage) == ["Café", "ÉVREUX"]
    assert shown(snippet("昨日は京都の雨", frozenset(words("京都")))) == ["京都"]
    assert snippet("nothing here", frozenset({"absent"})) is None
    assert snippet("category", frozenset({"cat"})) is None


def test_a_snippet_shows_the_passage_with_most_of_the_words():
    text = "alpha " + "filler " * 100 + "alpha beta " + "filler " * 100
    passage = snippet(text, frozenset({"alpha", "beta"}))
    assert shown(passage) == ["alpha", "beta"]
    assert passage.startswith("…")
    assert passage.endswith("…")
    assert len(passage) < 260


def test_needles_are_marked_inside_words():
    assert snippet("docs/Résumé-final.md", frozenset(), ["resum"]) == "docs/<mark>Résum</mark>é-final.md"


def test_a_snippet_takes_no_longer_than_it_may():
    began = time.monotonic()
    # Each letter of the path is a hit of every needle: the square of that would take minutes.
    assert snippet("a" * 1000, frozenset({"a"}), ["a"] * 64 + ["aa", "aaa"]) is not None
    assert snippet("b" * 1000, frozenset(), ["b", "x" * 9, "bb"] * 20).count("<mark>") > 0
    assert time.monotonic() - began < 2.0


def test_a_long_text_without_blanks_is_not_remembered():
    _remembered.cache_clear()
    assert snippet("é" * 300 + " word", frozenset({"word"})) is not None
    assert _remembered.cache_info().currsize == 1


@pytest.mark.parametrize("text", ["xcat cat", "cat_cat", "Cat7 CAT", "catcat cat", "cat"])
def test_a_word_is_marked_where_it_is_one(text):
    marked = shown(snippet(text, frozenset({"cat"})))
    assert {word.lower() for word in marked} == {"cat"}
    assert len(marked) == len(re.findall("(?<![a-z0-9])cat(?![a-z0-9])", text.lower()))


def test_markup_in_the_text_is_only_text():
    assert snippet('<img src=x onerror="x"> cat', frozenset({"img", "cat"})) == (
        "&lt;<mark>img</mark> src=x onerror=&quot;x&quot;&gt; <mark>cat</mark>"
    )


@given(st.text(), st.text(min_size=1, max_size=12))
def test_a_snippet_is_safe_html_and_quotes_the_text(text, needle):
    passage = snippet(text, frozenset(words(needle)), [fold(needle)])
    if passage is None:
        return
    assert shown(passage)
    rest = passage.replace("<mark>", "").replace("</mark>", "")
    assert not re.search(r"[<>\"]", rest)
    assert not re.search(r"&(?!amp;|lt;|gt;|quot;|#x27;)", rest)
