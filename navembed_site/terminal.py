"""Printing for people: tables that fit the terminal, and foreign text that it must not obey."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:  # each function imports what it needs: most processes print nothing that is laid out
    from rich.console import Console, Group
    from rich.table import Table
    from rich.text import Text

# Line breaks, ESC and its kin, and what turns the direction of writing.
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")
PIPED_WIDTH = 1000


def plain(text: str) -> str:
    """Return ``text``, a title or a path perhaps, as one line that does nothing but show."""
    return OBEYED.sub(" ", text).strip()


def short(text: str) -> Text:
    """Return ``text`` as one line that is cut to the room there is."""
    from rich.text import Text

    return Text(plain(text), no_wrap=True, overflow="ellipsis")


def size_text(count: float) -> str:
    """Return bytes as people read them."""
    for unit in ("B", "kB", "MB"):
        if round(count) < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB" if count < 1000 else f"{count:,.0f} GB"


def console(out: TextIO | None = None) -> Console:
    """Return a console that prints text as it is. Where there is no terminal nothing is cut."""
    from rich.console import Console

    out = out or sys.stdout
    return Console(file=out, markup=False, emoji=False, highlight=False, width=None if out.isatty() else PIPED_WIDTH)


def progress(state: str, percent: float, left: str, counts: str, now: str) -> Group:
    """Lay out how far something is, in three lines of which only ``now``, a title perhaps, is ever cut."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    line = Table.grid(padding=(0, 1), expand=True)
    for ratio in (None, 1, None, None):
        line.add_column(no_wrap=True, ratio=ratio)
    line.add_row(state, ProgressBar(total=100, completed=percent), f"{percent:.1f} %", left)
    return Group(line, counts, short(now))


def table(*columns: str, numbers: Collection[str] = (), cut: str = "") -> Table:
    """Return a table without lines; the columns ``numbers`` stand right, and ``cut`` gives way where room is short."""
    from rich.table import Table

    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in numbers else "left", no_wrap=name != cut)
    return made
