"""Printing for people: tables that fit, and titles that a terminal does not obey."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len

from navembed_site.terminal import console, plain, short, table

TITLES = [
    "[/nope] closed",
    "\x1b[31mred\x1b]0;title\x07",
    "長い題名" * 40,
    ":smile: [bold]x[/bold]",
    "two\nlines",
    "🥁⚡" * 60,
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def print_titles(out: io.StringIO) -> list[str]:
    shown = table("", "title", "id", numbers=("",), cut="title")
    for number, title in enumerate(TITLES):
        shown.add_row(str(number), short(title), "0123456789abcdef")
    console(out).print(shown)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_titles_are_cut_and_ids_are_not(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    _, *lines = print_titles(Terminal())
    assert len(lines) == len(TITLES)
    assert all(line.rstrip().endswith("0123456789abcdef") and cell_len(line) <= width for line in lines)


def test_nothing_is_cut_where_no_terminal_is() -> None:
    assert TITLES[2] in "\n".join(print_titles(io.StringIO()))


def test_titles_are_shown_as_they_are() -> None:
    printed = "\n".join(print_titles(io.StringIO()))
    assert "[/nope] closed" in printed
    assert ":smile: [bold]x[/bold]" in printed


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\nb", "a\r\nb", "a\x9bb", "a\u202eb", "a\x00\x07b"])
def test_what_a_terminal_obeys_is_left_out(text: str) -> None:
    assert plain(text).isprintable()
    assert (plain(text)[0], plain(text)[-1]) == ("a", "b")
