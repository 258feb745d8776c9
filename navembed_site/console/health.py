"""Whether everything is there that search and jobs need, in one line each, and what to do where it is not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import time
from typing import Any

from django.conf import settings
from django.db import connection

from batches.schedule import next_at
from batches.selectors.dry_run import DiskFull, disk_needs, require_room
from batches.selectors.hosts import device_text, hosts
from batches.terminal.jobs import has_worker
from embeddings.embedder.available_weights import download_size, problems_with
from embeddings.embedder.client import lock_name
from embeddings.embedder.states import EmbedderState, embedder_states
from embeddings.encoders.registry import ENCODERS, MODEL_KEYS, TEXT_MODEL
from embeddings.errors import IndexUnavailable, LibraryUnavailable
from embeddings.index.ownership import notice
from embeddings.index.sync import vector_store
from embeddings.library import open_library
from embeddings.library.away import MOST_SHOWN, away
from embeddings.search.text import TextSupport, text_support
from navembed_site.console import words
from navembed_site.database.health import watch
from navembed_site.http.remembered import Remembered
from navembed_site.process.host import host_key
from navembed_site.process.locks import is_held
from navembed_site.terminal import size_text

MILVUS_SECONDS = 2.0
STOPPED = "It does not run: `manage.py serve` starts everything"
LABELS = {model.key: model.label for model in (*ENCODERS, TEXT_MODEL)}


@dataclass(frozen=True)
class Loaded:
    """A model in an embedder's memory."""

    key: str
    label: str
    bytes: int
    idle_seconds: float | None


@dataclass(frozen=True)
class Sign:
    """One thing that must be well. ``tone`` is good, warn or bad; ``text`` says what to do unless it is good."""

    name: str
    icon: str
    tone: str
    text: str
    loaded: tuple[Loaded, ...] = ()


def _signs() -> list[Sign]:
    embedders = map(_embedder, embedder_states())
    mine = [_library(), *_away(), _database(), _milvus(), *_notice(), _worker(), *embedders]
    return [*mine, *_other_hosts(), _disk(), _schedule()]


signs = Remembered(_signs, seconds=3.0, longest=15.0)
"""What is asked of others is asked once for all who look; who mends something sees it soon."""


def _library() -> Sign:
    try:
        return Sign("Library", "library_music", "good", f"{open_library().count():,} tracks can be played")
    except LibraryUnavailable as error:
        return Sign("Library", "library_music", "bad", str(error))


def _away() -> Iterator[Sign]:
    """Yield what is merely away: its vectors are kept for a while."""
    groups = away()
    told = [f"{each.tracks:,} below {each.folder}, since {words.ago(each.since)}" for each in groups[:MOST_SHOWN]]
    if more := sum(each.tracks for each in groups[MOST_SHOWN:]):
        told.append(f"{more:,} more")
    if told:
        yield Sign("Tracks that are away", "folder_off", "warn", f"{'; '.join(told)}. Is a disk not mounted?")


def _notice() -> Iterator[Sign]:
    """Yield what belongs to another instance in Milvus, and what to do."""
    if text := notice():
        yield Sign("Another instance", "call_split", "warn", text[:1].upper() + text[1:])


def _database() -> Sign:
    if trouble := watch.trouble():
        return Sign("Database", "database", "bad", str(trouble))
    kind = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[connection.vendor]
    return Sign("Database", "database", "good", f"{kind} answers")


def _milvus() -> Sign:
    name = "Milvus" if settings.MILVUS_URI else "Search index"
    try:
        vector_store(timeout=MILVUS_SECONDS, connect_pauses=()).collections()
    except IndexUnavailable as error:
        if not settings.MILVUS_URI and not is_held("milvus_lite"):
            return Sign(name, "hub", "bad", STOPPED)
        remedy = "start it, or mend NAVIDROME_MILVUS_URI" if settings.MILVUS_URI else "`manage.py serve` starts it anew"
        return Sign(name, "hub", "bad", f"It does not answer, so nothing can be searched ({error}): {remedy}")
    return Sign(name, "hub", "good", "answers")


def _worker() -> Sign:
    if has_worker():
        return Sign("Worker", "engineering", "good", "ready for jobs")
    return Sign("Worker", "engineering", "bad", STOPPED)


def _embedder(state: EmbedderState) -> Sign:
    name = "Embedder" if len(settings.DEVICES) == 1 else f"Embedder {state.device}"
    if state.starting:
        return Sign(name, "memory", "warn", "It is starting, which takes some seconds")
    if not state.answers and not is_held(lock_name(state.device)):
        return Sign(name, "memory", "bad", STOPPED)
    if not state.answers:
        return Sign(name, "memory", "bad", f"It does not answer: {state.error}")
    loaded = tuple(
        Loaded(key, LABELS.get(key, key), model["bytes"], model["idle_seconds"])
        for key, model in state.models.items()
        if model["loaded"]
    )
    device = next((model["device"] for model in state.models.values() if model["device"]), settings.DEVICES[0])
    doing = "at work" if state.busy else "idle" if loaded else "idle, no model is loaded"
    return Sign(name, "memory", "good", f"{device}, {doing}", loaded)


def _other_hosts() -> Iterator[Sign]:
    """Yield the other machines that work for this instance; one that is not seen any more takes part in nothing."""
    for host in hosts():
        if host["key"] == host_key():
            continue
        if not host["is_here"]:
            yield Sign(host["name"], "dns", "warn", f"It was last seen {words.ago(host['seen_at'])}: start its worker")
            continue
        troubled = any(device["problem"] for device in host["devices"])
        text = ", ".join(map(device_text, host["devices"])) or "no devices"
        yield Sign(host["name"], "dns", "bad" if troubled else "good", text)


def _disk() -> Sign:
    needs = disk_needs()
    try:
        require_room(needs)
    except DiskFull as error:
        return Sign("Disk", "hard_drive", "bad", f"To embed what is missing, {error}")
    free = shutil.disk_usage(settings.NAVEMBED_HOME).free
    needed = sum(disk.needed_bytes for disk in needs)
    what = f"what is missing needs {size_text(needed)}" if needed else "nothing is missing"
    return Sign("Disk", "hard_drive", "good", f"{size_text(free)} free; {what}")


def _schedule() -> Sign:
    quiet = settings.QUIET_HOURS
    hours = f", only between {quiet[0]:%H:%M} and {quiet[1]:%H:%M}" if quiet else ""
    match settings.SCHEDULE:
        case "off":
            text = "none; NAVEMBED_SCHEDULE starts jobs by itself"
        case "scan":
            text = f"after each of Navidrome's scans{hours}"
        case time():
            text = f"{next_at():%A, %-d %B, %H:%M}, and so every day{hours}"
    return Sign("Next scheduled job", "event", "good", text)


def _models() -> dict[str, dict[str, Any]]:
    """By model: what keeps it from being loaded, what its download takes, whether texts can search it."""
    problems, texts = problems_with(MODEL_KEYS), text_support()
    return {
        key: {
            "problem": problems.get(key, ""),
            "download_bytes": download_size(key) if key in problems else 0,
            "text": texts.get(key, TextSupport(None)),
        }
        for key in MODEL_KEYS
    }


models = Remembered(_models, seconds=10.0)
