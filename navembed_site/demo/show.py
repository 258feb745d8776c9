"""What the demo does besides serving: start a job as the panel does, follow it, judge and show the result."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple

from rich.console import Console
from rich.live import Live

from batches.models import TrackResult
from batches.selectors.library import library_status
from embeddings.encoders.registry import ENCODERS, MODEL_KEYS
from embeddings.models import Track
from embeddings.search.neighbours import nearest_to_track
from embeddings.search.recommend import Query, Seed, recommend
from embeddings.spaces.lifecycle import live_space
from navembed_site.demo.library import ALBUMS, DemoLibrary
from navembed_site.terminal import progress, short, table

TERMINAL = {"completed", "completed_with_errors", "cancelled", "failed"}
NEIGHBOURS = 3
BRIDGE_SECONDS = 120  # a busy machine takes a while to import what it needs
LINE_POLLS = 10  # where there is no terminal: a line each so many polls


def run_job(address: str, console: Console) -> dict[str, Any]:
    """Start a job with all models over HTTP and show its progress; returns the last progress reply."""
    body = {"models": list(MODEL_KEYS), "clearExisting": True}
    console.print(f"POST {address}/batch/start {json.dumps(body)}")
    console.print(json.dumps(_call(f"{address}/batch/start", body)))
    return _show_bar(address, console) if console.is_terminal else _show_lines(address, console)


def _show_bar(address: str, console: Console) -> dict[str, Any]:
    with Live(console=console, auto_refresh=False) as picture:
        for reply in _polls(address):
            counts = f"{reply['processed_tracks'] + reply['failed_tracks']}/{reply['total_tracks']} tracks"
            now = reply["message"] or reply["current_track"] or ""
            shown = progress(reply["status"], reply["progress_percent"], _time_left(reply), counts, now)
            picture.update(shown, refresh=True)
    return reply


def _show_lines(address: str, console: Console) -> dict[str, Any]:
    for number, reply in enumerate(_polls(address)):
        if number % LINE_POLLS == 0 or reply["status"] in TERMINAL:
            console.print(
                f"{reply['progress_percent']:5.1f} % {_now(reply)}", markup=False, highlight=False, soft_wrap=True
            )
    return reply


def _polls(address: str) -> Iterator[dict[str, Any]]:
    while True:
        reply = _call(f"{address}/batch/progress")
        yield reply
        if reply["status"] in TERMINAL:
            return
        time.sleep(1)


def _now(reply: dict[str, Any]) -> str:
    finished = reply["processed_tracks"] + reply["failed_tracks"]
    parts = [f"{finished}/{reply['total_tracks']} tracks", reply["message"] or reply["current_track"] or ""]
    return ", ".join(filter(None, [*parts, _time_left(reply)]))


def _time_left(reply: dict[str, Any]) -> str:
    end = reply["estimated_completion"]
    return f"about {max(0, end - time.time()):.0f} s left" if end else ""


def _call(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    return dict(_get(url, json.dumps(body).encode() if body is not None else None))


def _get(url: str, data: bytes | None = None) -> Any:
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310  (our own address)
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        return json.load(response)


def judge(library: DemoLibrary, end: dict[str, Any]) -> list[str]:
    """Return what did not hold; empty when the demo shows what it should."""
    problems = []
    status = library_status(ask_milvus=True)
    if end["status"] not in {"completed", "completed_with_errors"}:  # the damaged file is tried by the first job alone
        problems.append(f"the job ended as {end['status']}: {end['message']}")
    if status["playable"] != library.tracks:
        problems.append(f"{status['playable']} tracks are playable instead of {library.tracks}")
    for model, counts in status["models"].items():
        good = library.tracks - 1
        wanted = {"embedded": good, "missing": 0, "failed": 1, "orphaned": 0, "indexed": good, "in_milvus": good}
        problems += [f"{model}: {key} is {counts[key]} instead of {n}" for key, n in wanted.items() if counts[key] != n]
        problems += _twins_apart(model, library)
    genres = same_genre_first(library)
    if genres.hits <= genres.by_chance:
        problems.append(f"the same genre comes first {genres.hits} times, by chance {genres.by_chance:.1f} times")
    failed = set(TrackResult.objects.filter(status="failed").values_list("track_id", flat=True))
    if failed != {library.damaged}:
        problems.append(f"failed tracks are {sorted(failed)} instead of the damaged one")
    return problems


def judge_texts(address: str, console: Console) -> list[str]:
    """Ask every model with words, as Navidrome's page does; bridges are fitted just after the job. Returns problems."""
    until = time.monotonic() + BRIDGE_SECONDS
    while not all(model["text"] for model in _get(f"{address}/models")) and time.monotonic() < until:
        time.sleep(1)
    problems = []
    for model in _get(f"{address}/models"):
        if not model["text"]:
            problems.append(f"{model['name']} does not answer to texts: {model['problem']}")
            continue
        found = _call(f"{address}/embed_text", {"text": "slow piano", "model": model["name"]})
        console.print(f'"slow piano" is {found["dimension"]:,} numbers for {model["name"]} ({model["text"]})')
    return problems


def _twins_apart(model: str, library: DemoLibrary) -> list[str]:
    one, other = library.twins
    pairs = ((one, other), (other, one))
    return [
        f"{model}: {wanted} is not the nearest neighbour of its twin {track}"
        for track, wanted in pairs
        if [n.track_id for n in nearest_to_track(model, track, 1)] != [wanted]
    ]


def show_summary(library: DemoLibrary, console: Console) -> None:
    """Print vectors per model, what failed, and the neighbours of three tracks."""
    status = library_status()
    numbers = ("vectors", "dimension", "failed", "in Milvus")
    shown = table("model", *numbers, numbers=numbers)
    for encoder in ENCODERS:
        counts = status["models"][encoder.key]
        space = live_space(encoder.key)
        figures = (counts["embedded"], space and space.dimension, counts["failed"], counts["indexed"])
        shown.add_row(encoder.label, *map(str, figures))
    console.print(shown)
    for path, reason in (
        TrackResult.objects.filter(status="failed").values_list("track__path", "error_message").distinct()
    ):
        console.print(f"failed: {path}: {reason}", highlight=False, soft_wrap=True)
    for track_id in _three_tracks(library):
        _show_neighbours(track_id, console)
    found = same_genre_first(library)
    console.print(
        f"\nAsked with all models for what sounds like it, {found.tracks} tracks get one of their own genre first "
        f"{found.hits} times; by chance it would be {found.by_chance:.1f} times.",
        highlight=False,
    )
    console.print("These weights are tiny and random: they only show that the machinery works, not taste.")


class GenreFigure(NamedTuple):
    """For how many tracks the first recommendation is of their own genre, and for how many by chance."""

    tracks: int
    hits: int
    by_chance: float


def same_genre_first(library: DemoLibrary) -> GenreFigure:
    """Ask for each track what sounds like it; a copy of the same piece does not count."""
    genres = {album.title: album.genre for album in ALBUMS}
    tracks = Track.objects.filter(playable=True).exclude(id=library.damaged)
    genre_of = {track.pk: genres[track.album] for track in tracks}
    hits, by_chance = 0, 0.0
    for track_id, genre in genre_of.items():
        copies = library.twins if track_id in library.twins else (track_id,)
        query = Query(seeds=[Seed(track_id)], models=MODEL_KEYS, limit=1, exclude_track_ids=copies)
        hits += [genre_of.get(each.track_id) for each in recommend(query).tracks] == [genre]
        others = [each for other, each in genre_of.items() if other not in copies]
        by_chance += others.count(genre) / len(others)
    return GenreFigure(len(genre_of), hits, by_chance)


def _three_tracks(library: DemoLibrary) -> list[str]:
    others = Track.objects.filter(playable=True).exclude(id__in=[*library.twins, library.damaged]).order_by("id")
    return [library.twins[0], *others.values_list("id", flat=True)[:2]]


def _show_neighbours(track_id: str, console: Console) -> None:
    shown = table("model", "score", "track", cut="track")
    for model in MODEL_KEYS:
        for rank, neighbour in enumerate(nearest_to_track(model, track_id, NEIGHBOURS)):
            shown.add_row("" if rank else model, f"{neighbour.score:.4f}", short(_name(neighbour.track_id)))
    console.print(f"\nNearest to {_name(track_id)}", markup=False)
    console.print(shown)


def _name(track_id: str) -> str:
    track = Track.objects.get(pk=track_id)
    return f"{track} ({track.path.rsplit('.', 1)[-1]})"
