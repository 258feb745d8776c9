"""Rows that pages show, and people who look at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from batches.api.v1.library import counts
from batches.models import BatchJob
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.maps.making import make_map
from embeddings.models import BadFile, EmbeddingSpace, Track
from navembed_site.console import colours, health, maps, pace
from tests.batches.rows import make_embedding, make_job, make_track, set_status

Person = Callable[[str], Client]

HOSTILE = [
    "<img src=x onerror=window.hacked=1>",
    "</script><script>window.hacked=1</script>",
    "{{ window.hacked=1 }}{% debug %}",
    "'\" x-init=window.hacked=1 @click=window.hacked=1 :class=window.hacked=1 autofocus onfocus=window.hacked=1 '",
]
"""What somebody may have called a track, a folder or a job."""


@pytest.fixture(autouse=True)
def nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What pages ask once for many readers is asked once by each test, however slow the machine is."""
    for each in (counts, health.signs, health.models):
        monkeypatch.setattr(each, "_seconds", 600)
    forget()
    yield
    forget()


def forget() -> None:
    """Have everything asked for again."""
    for each in (counts, health.signs, health.models):
        each.forget()
    pace.forget()
    maps._sketch.cache_clear()
    colours.frequent.cache_clear()


@pytest.fixture
def person(db: None) -> Person:
    """Somebody with a role, who is signed in."""

    def make(role: str) -> Client:
        user = User.objects.create_user(f"the {role}", is_staff=True)
        user.groups.add(Group.objects.get(name=role))
        client = Client()
        client.force_login(user)
        return client

    return make


def bad(track: Track, model: str = "muq", message: str = "it is damaged", **fields: Any) -> BadFile:
    """A file that no job tries again."""
    told = {"size": track.size, "mtime": track.mtime, "error_class": "AudioError", "error_message": message}
    return BadFile.objects.create(track=track, model=model, **told, **fields)


def finished_job(*names: str, message: str = "it is damaged", traceback: str = "Traceback") -> BatchJob:
    """A job with all models over tracks of these names, of which the last one has failed; and the maps after it."""
    tracks = [make_track(f"{name}-{Track.objects.count()}", title=name) for name in names]
    job = make_job(tracks, MODEL_KEYS)
    EmbeddingSpace.objects.update(recipe={"weights": ["0123abcd"]})
    for space in EmbeddingSpace.objects.filter(status="live"):
        for track in tracks[:-1]:
            make_embedding(space, track)
        make_map(space)
    failed = {"status": "failed", "error_class": "AudioError", "error_message": message, "traceback": traceback}
    job.results.filter(track=tracks[-1]).update(finished_at=timezone.now(), **failed)
    job.progress.update(failed=1)
    BatchJob.objects.filter(pk=job.pk).update(failed_tracks=1, started_at=timezone.now())
    for model in MODEL_KEYS:
        bad(tracks[-1], model, message=message)
    return set_status(job, "completed_with_errors")
