"""``manage.py library_snapshot``: let a machine read Navidrome's library that cannot read its database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from django.core.management.base import CommandError, CommandParser
from django.urls import reverse

from embeddings.errors import LibraryUnavailable
from embeddings.library import open_library
from embeddings.library.snapshot import NotASnapshot, open_snapshot, pieces_of, save
from navembed_site.instance import command
from navembed_site.terminal import size_text

TIMEOUT = httpx.Timeout(10, read=300)  # the other side writes all of it before it answers


class Command(command.Command):
    help = "Write what navembed reads of Navidrome's database to a file, which another machine names NAVIDROME_DB_PATH."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="replaced when the new one is whole")
        parser.add_argument("--from", dest="url", metavar="URL", help="address of a navembed beside Navidrome")
        parser.add_argument("--token-file", type=Path, metavar="FILE", help="with its token, of the scope operate")

    def handle(self, *args: Any, to: Path, url: str | None, token_file: Path | None, **options: Any) -> None:
        if (url is None) != (token_file is None):
            raise CommandError("--from and --token-file belong together.")
        try:
            tracks = _fetch(url, token_file, to) if url and token_file else _write(to)
        except NotASnapshot as error:
            raise CommandError(f"{to} is as it was: what came is no whole snapshot ({error}).") from error
        except (LibraryUnavailable, httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise CommandError(f"{to} is as it was: {error}") from error
        self.stdout.write(f"{to} ({size_text(to.stat().st_size)}) has {tracks:,} tracks.")


def _write(target: Path) -> int:
    with open_snapshot(open_library()) as file:
        return save(pieces_of(file), target)


def _fetch(url: str, token_file: Path, target: Path) -> int:
    """Redirects are not followed: they could lead the token elsewhere."""
    headers = {"Authorization": f"Bearer {token_file.read_text(encoding='utf-8').strip()}"}
    with httpx.stream("GET", url.rstrip("/") + reverse("library-snapshot"), headers=headers, timeout=TIMEOUT) as reply:
        if reply.status_code != httpx.codes.OK:
            reply.read()
            raise CommandError(f"{target} is as it was: {url} answered {reply.status_code}: {_detail(reply)}")
        return save(reply.iter_bytes(), target)


def _detail(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return reply.reason_phrase
