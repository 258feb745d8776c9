"""``manage.py similar``: which tracks sound like one, or like words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import Q, TextField, Value
from django.db.models.functions import Concat

from embeddings.encoders.registry import MODEL_KEYS
from embeddings.models import Track
from embeddings.search.recommend import Answer, Query, Seed, recommend
from embeddings.search.text import clean_prompt
from navembed_site.errors import NavembedError
from navembed_site.instance import command
from navembed_site.instance.needed import needed_processes
from navembed_site.terminal import console, plain, short, table

SECONDS = 120.0  # a person waits longer than a program, and the text model may have to be loaded
MOST_LISTED = 10


class Command(command.Command):
    help = "Show which tracks sound like a track, or like words."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("track", nargs="?", help="its id, or a part of its path or of 'artist - title'")
        parser.add_argument("--text", help="words instead of a track")
        parser.add_argument("--models", nargs="+", choices=MODEL_KEYS, default=list(MODEL_KEYS[:1]), metavar="MODEL")
        parser.add_argument("--limit", type=int, default=10, help="how many (default: 10)")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON for scripts")

    def handle(
        self, *, track: str | None, text: str | None, models: list[str], limit: int, as_json: bool, **_: Any
    ) -> None:
        if (track is None) == (text is None):
            raise CommandError("Name a track, or give words with --text.")
        if not 1 <= limit <= 500:
            raise CommandError("--limit must lie between 1 and 500.")
        query = _of_text(text, models, limit) if text is not None else _of_track(track or "", models, limit)
        processes = ["milvus_lite"] if text is None else ["milvus_lite", "embedder"]
        try:
            with needed_processes(*processes):
                answer = recommend(query, seconds=SECONDS)
        except NavembedError as error:
            raise CommandError(str(error)) from error
        for warning in answer.warnings:
            self.stderr.write(warning)
        if as_json:
            self.stdout.write(json.dumps(asdict(answer), indent=2, ensure_ascii=False))
        elif answer.tracks:
            _print(answer)


def _of_text(text: str, models: list[str], limit: int) -> Query:
    try:
        return Query(texts=[clean_prompt(text)], models=models, limit=limit)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _of_track(name: str, models: list[str], limit: int) -> Query:
    return Query(seeds=[Seed(find_track(name).pk)], models=models, limit=limit)


def find_track(name: str) -> Track:
    """Return the one track that is meant. Raises CommandError, which lists those that could be."""
    named = Track.objects.annotate(name=Concat("artist", Value(" - "), "title", output_field=TextField()))
    for condition in (
        Q(pk=name) | Q(path=name),
        Q(name__iexact=name),
        Q(name__icontains=name) | Q(path__icontains=name),
    ):
        found = list(named.filter(condition, playable=True).order_by("artist", "title", "pk")[: MOST_LISTED + 1])
        if len(found) == 1:
            return found[0]
        if found:
            raise CommandError(_ambiguous(name, found))
    raise CommandError(f"No track has the id {name!r}, or it in its path or name.")


def _ambiguous(name: str, found: Sequence[Track]) -> str:
    lines = [f"  {track.pk}  {plain(f'{track}  {track.path}')}" for track in found[:MOST_LISTED]]
    more = ["  …"] if len(found) > MOST_LISTED else []
    return "\n".join([f"Several tracks could be {name!r}; name one by its id:", *lines, *more])


def _print(answer: Answer) -> None:
    tracks = Track.objects.in_bulk([each.track_id for each in answer.tracks])
    shown = table("", "score", "track", "models", "id", numbers=("", "score"), cut="track")
    for rank, each in enumerate(answer.tracks, start=1):
        name = short(str(tracks.get(each.track_id, "")))
        shown.add_row(str(rank), f"{each.score:.3f}", name, " ".join(each.models), each.track_id)
    console().print(shown)
    console().print("score: about the share of random pairs of tracks that sound less alike")
