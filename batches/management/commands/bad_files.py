"""``manage.py bad_files``: files that could not be embedded, and acknowledging them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from django.core.management.base import CommandError, CommandParser

from embeddings.library.bad_files import bad_files, ignore, named
from embeddings.models import BadFile
from navembed_site.instance import command
from navembed_site.terminal import plain


class Command(command.Command):
    help = (
        "Lists the files that could not be embedded and have not changed since. Jobs leave them alone; "
        "`embed_library --retry-bad-files` tries them again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group()
        for option, meaning in (("--ignore", "acknowledge these: they count no more"), ("--notice", "take that back")):
            what.add_argument(
                option, nargs="+", metavar="FILE", help=f"{meaning}; a path, a track's id, or `all`", default=[]
            )
        parser.add_argument("--json", action="store_true", dest="as_json", help="Print JSON for scripts.")

    def handle(self, *, ignore: list[str], notice: list[str], as_json: bool, **options: Any) -> None:
        if ignore or notice:
            self._set(ignore or notice, ignored=bool(ignore))
            return
        found = list(bad_files())
        if as_json:
            self.stdout.write(json.dumps([_report(bad) for bad in found], indent=2, ensure_ascii=False))
            return
        for line in _lines(found):
            self.stdout.write(line)

    def _set(self, names: list[str], *, ignored: bool) -> None:
        count = ignore(bad_files() if names == ["all"] else named(names), ignored=ignored)
        if not count:
            raise CommandError(f"No bad file is named {' or '.join(names)}; `manage.py bad_files` lists them.")
        self.stdout.write(f"{_files(count)} {'ignored' if ignored else 'counted again'}.")


def _report(bad: BadFile) -> dict[str, Any]:
    return {
        "track": bad.track_id,
        "path": bad.track.path,
        "model": bad.model,
        "error": bad.error_message,
        "failed_at": bad.failed_at.isoformat(),
        "ignored": bad.ignored,
    }


def _lines(found: Iterable[BadFile]) -> Iterable[str]:
    """A path, and under it which models failed for what reason: one line where all fail alike."""
    count = 0
    for path, of_path in groupby(found, key=lambda bad: bad.track.path):
        rows = list(of_path)
        yield f"{plain(path)}{'  (ignored)' if all(bad.ignored for bad in rows) else ''}"
        for reason in dict.fromkeys(bad.error_message for bad in rows):
            yield f"  {', '.join(bad.model for bad in rows if bad.error_message == reason)}: {plain(reason)}"
        count += 1
    yield f"{_files(count)}. `embed_library --retry-bad-files` tries again." if count else "No bad files are known."


def _files(count: int) -> str:
    return f"{count:,} bad file{'s' if count != 1 else ''}"
