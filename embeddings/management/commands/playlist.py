"""``manage.py playlist``: a playlist of music that sounds alike, in a music server or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from embeddings.encoders.registry import MODEL_KEYS
from embeddings.management.commands.similar import SECONDS, find_track
from embeddings.models import Playlist
from embeddings.playlists import service
from embeddings.playlists.m3u import m3u
from embeddings.playlists.recipe import Recipe, tracks_of
from navembed_site.errors import NavembedError
from navembed_site.instance import command
from navembed_site.instance.needed import needed_processes
from navembed_site.terminal import console, table

SCHEDULES = {None: Playlist.Schedule.ONCE, "day": Playlist.Schedule.DAILY, "week": Playlist.Schedule.WEEKLY}


class Command(command.Command):
    help = (
        "Make a playlist in a music server, or update the one of this name that navembed has made. "
        "Without a name, list those that there are."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="of the playlist")
        parser.add_argument("--like", nargs="+", default=[], metavar="TRACK", help="ids, or parts of paths or names")
        parser.add_argument("--text", default="", help="words that say what it shall sound like")
        parser.add_argument("--path", nargs=2, default=[], metavar="TRACK", help="lead from the first to the second")
        parser.add_argument("--cluster", nargs=1, default=[], metavar="TRACK", help="the track's group on the map")
        parser.add_argument("--favourites", action="store_true", help="sound like what its user has starred")
        parser.add_argument("--fresh", action="store_true", help="made again, have none of the tracks it had before")
        parser.add_argument("--user", default="", help="whose it shall be (default: NAVEMBED_SUBSONIC_USER)")
        parser.add_argument("--limit", type=int, default=Recipe.limit, help=f"how many (default: {Recipe.limit})")
        parser.add_argument("--models", nargs="+", choices=MODEL_KEYS, default=list(Recipe.models), metavar="MODEL")
        parser.add_argument("--diversity", type=float, default=0.0, help="0 to 1: how unlike each other they shall be")
        parser.add_argument("--every", choices=("day", "week"), help="make it anew so often, by the library of then")
        parser.add_argument("--m3u", type=Path, metavar="FILE", help="write it to a file, and to no server")
        parser.add_argument("--forget", action="store_true", help="never make it again; the server keeps it")

    def handle(self, *, name: str | None, forget: bool, **options: Any) -> None:
        if name is None:
            self._list()
            return
        try:
            if forget:
                service.forget(name, options["user"])
            else:
                self._make(name, _recipe(**options), **options)
        except NavembedError as error:
            raise CommandError(str(error)) from error

    def _make(self, name: str, recipe: Recipe, *, user: str, every: str | None, m3u: Path | None, **_: Any) -> None:
        processes = ["milvus_lite", "embedder"] if recipe.text else ["milvus_lite"]
        if m3u is None:
            playlist = service.save(name, recipe, user=user, schedule=SCHEDULES[every])
        with needed_processes(*processes):
            warnings = _write(m3u, name, recipe, user) if m3u else service.make(playlist, seconds=SECONDS)
        for warning in warnings:
            self.stderr.write(warning)
        self.stdout.write(f"{m3u} is written." if m3u else service.told(playlist))

    def _list(self) -> None:
        shown = table("name", "user", "tracks", "made", "again", "what is wrong", numbers=("tracks",), cut="name")
        for playlist in Playlist.objects.order_by("user", "name"):
            made = f"{playlist.made_at:%Y-%m-%d}" if playlist.made_at else "never"
            count = str(len(tracks_of(playlist)))
            shown.add_row(playlist.name, playlist.user, count, made, playlist.schedule, playlist.problem)
        console().print(shown if shown.row_count else "There is no playlist of ours yet.")


def _recipe(**options: Any) -> Recipe:
    named: dict[str, Any] = {
        option: [find_track(each).pk for each in options[option]] for option in ("like", "path", "cluster")
    }
    return Recipe(
        **named, **{name: options[name] for name in ("text", "favourites", "fresh", "models", "limit", "diversity")}
    )


def _write(file: Path, name: str, recipe: Recipe, user: str) -> list[str]:
    """Write the file, and return the warnings."""
    found = service.tracks_for(recipe, user, SECONDS)
    try:
        file.write_bytes(m3u(name, found.track_ids))
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}.") from error
    return found.warnings
