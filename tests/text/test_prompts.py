"""What is left of a prompt."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings.search.text import MAX_CHARACTERS, REMOVED, clean_prompt


@pytest.mark.parametrize(
    ("given", "cleaned"),
    [
        ("  calm\tpiano \r\n in the rain ", "calm piano in the rain"),
        ("zünftige Blasmusik", "zünftige Blasmusik"),
        ("zu\u0308nftig", "zünftig"),
        ("静かな夜", "静かな夜"),
        ("موسيقى هادئة", "موسيقى هادئة"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("family 👨\u200d👩\u200d👧", "family 👨\u200d👩\u200d👧"),
        ("sad\x00song\x1b[31m", "sad song [31m"),
        ("\u202etxet\u202c", "txet"),
        ("half \ud83d a pair", "half a pair"),
        ("Don't stop! (live)", "Don't stop! (live)"),
    ],
)
def test_language_stays_and_what_cannot_be_seen_goes(given: str, cleaned: str) -> None:
    assert clean_prompt(given) == cleaned


@pytest.mark.parametrize("nothing", ["", "   ", "\n\t", "\x00\x01", "\ud800", "\u200d\u200c", "\u200b\ufeff", "\u3000"])
def test_nothing_is_refused(nothing: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        clean_prompt(nothing)


def test_a_book_is_cut() -> None:
    assert clean_prompt("la " * 10_000_000) == ("la " * MAX_CHARACTERS)[:MAX_CHARACTERS].strip()


@given(st.text(st.characters(), max_size=2_000))
def test_any_text_becomes_a_prompt_that_stays_as_it_is(text: str) -> None:
    try:
        prompt = clean_prompt(text)
    except ValueError:
        return
    assert 0 < len(prompt) <= MAX_CHARACTERS
    assert clean_prompt(prompt) == prompt
    assert prompt.encode()
    assert not {unicodedata.category(c) for c in prompt} & (REMOVED - {"Cf"})
