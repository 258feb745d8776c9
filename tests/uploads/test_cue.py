"""The corpus of CUE sheets, and that no bytes make the parser fail in another way than it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings.uploads.cue import BadSheet, decode, parse, parts_of
from tests.uploads.sheets import CASES, Case


def parts(case: Case) -> list[tuple[int, str, int, int | None]]:
    found = parts_of(parse(decode(case.data)), case.name)
    return [(part.track.number, part.track.title, part.start, part.end) for part in found]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.refused])
def test_a_sheet_is_understood(name: str) -> None:
    assert parts(CASES[name]) == list(CASES[name].expected)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.refused])
def test_a_sheet_that_is_none_says_why(name: str) -> None:
    with pytest.raises(BadSheet, match=CASES[name].refused):
        parts(CASES[name])


def test_what_concerns_the_album_is_read() -> None:
    lines = ["REM GENRE Trip-Hop", "REM DATE 1998", "REM DISCNUMBER 1/2", 'PERFORMER "A"', 'TITLE "B"', 'FILE "x" WAVE']
    found = parse("\n".join([*lines, "TRACK 01 AUDIO", 'PERFORMER "C"', "INDEX 01 00:00:00"]))
    assert (found.genre, found.date, found.disc, found.discs) == ("Trip-Hop", "1998", 1, 2)
    assert (found.performer, found.title, found.tracks[0].performer) == ("A", "B", "C")


WORDS = st.sampled_from(
    ["FILE", "TRACK", "INDEX", "TITLE", "REM", "00", "01", "AUDIO", "00:00:00", "99:99:99", '"', "\n", "é", "DATE", "²"]
)


@given(st.one_of(st.binary(), st.lists(WORDS, max_size=60).map(lambda words: " ".join(words).encode())))
def test_no_bytes_break_it(data: bytes) -> None:
    try:
        found = parts_of(parse(decode(data)), "album.flac")
    except BadSheet:
        return
    assert all(part.end is None or part.end > part.start for part in found)
