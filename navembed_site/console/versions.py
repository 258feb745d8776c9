"""Versions: the vectors that search uses, those that are built beside them, and former ones that are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import Count
from django.http import HttpRequest
from django.shortcuts import get_object_or_404

from batches.models import BatchJob
from embeddings.encoders.registry import ENCODERS
from embeddings.models import Embedding, EmbeddingSpace
from embeddings.spaces.lifecycle import drop, roll_back
from embeddings.spaces.promotion import approve, point_aliases, size_of
from navembed_site.access.scopes import Scope
from navembed_site.console.looks import is_cancelled, last_jobs_of
from navembed_site.console.pages import change, page
from navembed_site.errors import NavembedError

Status = EmbeddingSpace.Status
ORDER = [Status.LIVE, Status.BUILDING, Status.KEPT, Status.DROPPING]


@dataclass(frozen=True)
class Version:
    """One model's vectors of one kind. ``job`` filled it last; ``is_in_work`` while it fills it still."""

    space: EmbeddingSpace
    vectors: int
    bytes: int
    weights: list[str]
    job: BatchJob | None

    @property
    def is_in_work(self) -> bool:
        return self.job is not None and self.job.is_open

    @property
    def is_build(self) -> bool:
        return self.space.status == Status.BUILDING and not self.is_in_work

    @property
    def is_finished_build(self) -> bool:
        return self.is_build and not is_cancelled(self.job)


@page("console/versions.html")
def versions(request: HttpRequest) -> dict[str, Any]:
    """By model: what there is of it, what search uses first."""
    spaces = list(EmbeddingSpace.objects.defer("calibration"))
    vectors = dict(Embedding.objects.order_by().values_list("space").annotate(Count("pk")))
    last = last_jobs_of(spaces)
    found = [
        Version(space, count, size_of(space, count), space.recipe.get("weights", []), last.get(space.pk))
        for space in spaces
        for count in [vectors.get(space.pk, 0)]
    ]
    found.sort(key=lambda version: ORDER.index(Status(version.space.status)))
    groups = [(encoder.label, [each for each in found if each.space.model == encoder.key]) for encoder in ENCODERS]
    return {"title": "Versions", "groups": groups}


@change(Scope.ADMIN)
def make_live(request: HttpRequest, pk: int) -> str:
    """Make a finished build live, though tracks lose their vector."""
    space = _space(pk, Status.BUILDING)
    approve(space.model)
    _point_aliases(request)
    return f"Search uses the new {space.model} vectors now"


@change(Scope.ADMIN)
def go_back(request: HttpRequest, pk: int) -> str:
    """Make the kept vectors live again."""
    space = _space(pk, Status.KEPT)
    roll_back(space.model)
    _point_aliases(request)
    return f"Search uses the former {space.model} vectors again"


@change(Scope.ADMIN)
def give_up(request: HttpRequest, pk: int) -> str:
    """Drop a build or kept vectors."""
    space = _space(pk, Status.BUILDING, Status.KEPT)
    drop(space)
    return f"The {space.model} vectors are dropped; their disk is given back within minutes"


def _space(pk: int, *statuses: str) -> EmbeddingSpace:
    space = get_object_or_404(EmbeddingSpace, pk=pk)
    if space.status not in statuses:
        raise NavembedError(f"these {space.model} vectors are {space.status} now, so nothing was changed")
    return space


def _point_aliases(request: HttpRequest) -> None:
    if problem := point_aliases():
        messages.warning(request, problem)
