"""Duplicates: tracks that hold the same recording. It only suggests: files are never touched."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from django_q.tasks import async_task

from embeddings.audio.pool import DecodePool
from embeddings.audio.summary import Limits
from embeddings.duplicates.judging import duplicates_of
from embeddings.duplicates.looking import tracks_left, want_look
from embeddings.duplicates.pairs import groups, reject, suggested
from embeddings.encoders.registry import ENCODERS
from embeddings.models import DuplicateLook, DuplicatePair, Track
from embeddings.search.neighbours import NotEmbeddedError
from navembed_site.console.pages import change, page
from navembed_site.errors import NavembedError

GROUPS_SHOWN = 20
MOST_PAIRS = 10_000
MODELS = [(encoder.key, encoder.label) for encoder in ENCODERS]

_one_at_a_time = threading.Lock()  # each decodes files


@dataclass
class Copy:
    """A track of a group, with what speaks for it: cosines by model in percent, the least of its pairs."""

    track: Track
    others: list[str] = field(default_factory=list)
    percents: dict[str, float] = field(default_factory=dict)
    same_audio: bool = False

    def add(self, other: str, similarity: dict[str, float], same_audio: bool) -> None:
        self.others.append(other)
        self.same_audio |= same_audio
        for model, cosine in similarity.items():
            self.percents[model] = min(100 * cosine, self.percents.get(model, 100.0))

    @property
    def evidence(self) -> list[tuple[str, float]]:
        return [(label, self.percents[key]) for key, label in MODELS if key in self.percents]

    @property
    def format(self) -> str:
        return self.track.path.rpartition(".")[2].upper()[:5]


@page("console/duplicates.html", parts=("duplicate_state",))
def duplicates(request: HttpRequest) -> dict[str, Any]:
    """Groups, the largest first; with ``show=rejected`` what somebody has said is none.

    A model that has not heard both tracks of a pair had no say in it; ``models`` are those that must have had one.
    """
    is_rejected = request.GET.get("show") == "rejected"
    chosen = [key for key, _ in MODELS if key in request.GET.getlist("models")]
    look = DuplicateLook.objects.first()
    context = {"title": "Duplicates", "look": look, "left": tracks_left() if look else 0}
    if request.GET.get("part"):
        return context
    wanted = suggested().filter(rejected=is_rejected)
    if chosen:
        wanted = wanted.filter(similarity__has_keys=chosen)
    pairs = list(wanted.order_by("-same_audio", "pk")[: MOST_PAIRS + 1])
    found = sorted(groups(pairs[:MOST_PAIRS]), key=lambda group: (-len(group), group[0].pk))
    shown = Paginator(found, GROUPS_SHOWN).get_page(request.GET.get("page"))
    return context | {
        "most": MOST_PAIRS if len(pairs) > MOST_PAIRS else 0,
        "is_rejected": is_rejected, "models": MODELS, "chosen": chosen, "page": shown, "groups": _copies(list(shown)),
    }  # fmt: skip


def _copies(shown: list[list[DuplicatePair]]) -> list[list[Copy]]:
    ids = {track for group in shown for pair in group for track in (pair.one_id, pair.other_id)}
    tracks = Track.objects.in_bulk(ids)
    found = []
    for group in shown:
        copies: dict[str, Copy] = {}
        for pair in group:
            for track, other in ((pair.one_id, pair.other_id), (pair.other_id, pair.one_id)):
                copy = copies.setdefault(track, Copy(tracks[track]))
                copy.add(other, pair.similarity, pair.same_audio)
        found.append(sorted(copies.values(), key=lambda copy: -copy.track.size))
    return found


@page("console/parts/duplicates_of.html")
def of_track(request: HttpRequest, track_id: str) -> dict[str, Any]:
    """Look for the duplicates of one track now; nothing is remembered of it."""
    track = get_object_or_404(Track, pk=track_id)
    if not _one_at_a_time.acquire(blocking=False):
        return {"problem": "Another track is being compared.", "again": track}
    try:
        found = _look_for(track)
    except NotEmbeddedError:
        return {"problem": "It has no vector yet, by which others could be found."}
    except NavembedError as error:
        return {"problem": str(error)}
    finally:
        _one_at_a_time.release()
    known = Track.objects.in_bulk([each.track_id for each in found])
    copies = [Copy(known[each.track_id]) for each in found]
    for copy, each in zip(copies, found, strict=True):
        copy.add(track.pk, each.similarity, each.same_audio)
    return {"copies": copies}


def _look_for(track: Track) -> list[Any]:
    decoders = DecodePool(1, limits=Limits(settings.MIN_DECODED, settings.MAX_HOURS))
    try:
        return duplicates_of(track.pk, decoders)
    finally:
        decoders.close()


@change()
def look(request: HttpRequest) -> str:
    """Asks for the library to be compared, now and after each change."""
    with transaction.atomic():
        want_look()
        async_task("batches.tasks.find_duplicates", cluster="light", task_name="duplicates")
    return "The library is looked through; what is found appears here"


@change()
def not_a_duplicate(request: HttpRequest) -> str:
    return _say(request, rejected=True)


@change()
def a_duplicate(request: HttpRequest) -> str:
    return _say(request, rejected=False)


def _say(request: HttpRequest, *, rejected: bool) -> str:
    track = get_object_or_404(Track, pk=request.POST.get("track", ""))
    if not reject(track.pk, request.POST.getlist("other"), rejected=rejected):
        raise NavembedError("these tracks are no suggestion any more, so nothing was changed")
    return f"{track} is {'no duplicate' if rejected else 'suggested as a duplicate again'}"
