"""Which space a job works in, and the ways from one status to another."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from embeddings.errors import FingerprintChanged, NoSuchSpace
from embeddings.models import EmbeddingSpace
from embeddings.spaces.lifecycle import (
    drop,
    drop_expired,
    live_space,
    lock_for_writing,
    make_live,
    roll_back,
    space_for,
)
from tests.spaces.conftest import described, make_space, statuses

pytestmark = [pytest.mark.django_db, pytest.mark.database]


# In which a job works


def test_first_space_is_live_at_once() -> None:
    space = space_for("muq", described())
    assert (space.status, space.dimension, space_for("muq", described())) == ("live", 16, space)


@pytest.mark.parametrize("anew", [False, True])
def test_live_space_without_vectors_is_used_where_it_fits(anew: bool) -> None:
    live = make_space("new")
    assert space_for("muq", described("new"), anew=anew) == live


def test_live_space_without_vectors_is_replaced_where_it_does_not_fit() -> None:
    make_space("old")
    assert space_for("muq", described("new")).status == "live"
    assert statuses() == ["dropping", "live"]


def test_build_goes_live_when_nothing_else_holds_vectors() -> None:
    make_space("old")
    build = make_space("new", "building", vectors=1)
    assert space_for("muq", described("new")) == build
    assert statuses() == ["dropping", "live"]


def test_same_weights_work_in_the_live_space_and_drop_a_leftover_build() -> None:
    live = make_space("new", vectors=1)
    make_space("new", "building", vectors=1)
    assert space_for("muq", described("new")) == live
    assert statuses() == ["live", "dropping"]


@pytest.mark.parametrize(("live", "anew"), [("old", False), ("old", True), ("new", True)])
def test_other_weights_or_anew_are_built_beside_and_go_on(live: str, anew: bool) -> None:
    make_space(live, vectors=1)
    build = space_for("muq", described("new"), anew=anew)
    assert build.status == "building"
    assert space_for("muq", described("new"), anew=anew) == build


def test_leftover_build_of_yet_other_weights_is_dropped() -> None:
    make_space("old", vectors=1)
    make_space("older", "building", vectors=1)
    assert space_for("muq", described("new")).status == "building"
    assert statuses() == ["live", "dropping", "building"]


def test_kept_space_is_left_alone() -> None:
    make_space("new", "kept", vectors=1)
    make_space("old", vectors=1)
    assert space_for("muq", described("new")).status == "building"
    assert statuses() == ["kept", "live", "building"]


@pytest.mark.parametrize("status", ["live", "building", "kept"])
def test_database_refuses_two_of_a_kind(status: str) -> None:
    make_space("old", status)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_space("new", status)


def test_any_number_may_be_dropping() -> None:
    make_space("old", "dropping")
    make_space("new", "dropping")
    assert statuses() == ["dropping", "dropping"]


# Switch


def test_builds_become_live_together_and_their_predecessors_are_kept() -> None:
    builds = []
    for model in ("muq", "mert"):
        make_space("oldest", "kept", model=model)
        make_space("old", model=model)
        builds.append(make_space("new", "building", model=model))
    assert {space.model for space in make_live(builds)} == {"muq", "mert"}
    assert statuses("muq") == statuses("mert") == ["dropping", "kept", "live"]
    assert EmbeddingSpace.objects.get(model="muq", status="kept").kept_at


def test_switch_is_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for model in ("muq", "mert"):
        make_space("old", model=model)
        make_space("new", "building", model=model)
    save = EmbeddingSpace.save

    def fail_at_muq(space: EmbeddingSpace, **options: Any) -> None:
        if space.model == "muq" and space.status == "live":
            raise OSError("the disk is full")
        save(space, **options)

    monkeypatch.setattr(EmbeddingSpace, "save", fail_at_muq)
    with pytest.raises(OSError, match="full"):
        make_live(EmbeddingSpace.objects.filter(status="building"))
    assert statuses("mert") == statuses("muq") == ["live", "building"]


def test_switch_again_changes_nothing() -> None:
    make_space("old")
    build = make_space("new", "building")
    assert make_live([build]) == [build]
    assert make_live([build]) == []
    assert statuses() == ["kept", "live"]


@pytest.mark.parametrize("status", ["kept", "dropping"])
def test_only_a_build_becomes_live(status: str) -> None:
    live = make_space("old")
    assert make_live([make_space("new", status)]) == []
    assert live_space("muq") == live


# The way back


def test_rollback_exchanges_live_and_kept_and_back_again() -> None:
    old = make_space("old", "kept")
    new = make_space("new")
    assert roll_back("muq") == old == live_space("muq")
    assert statuses() == ["live", "kept"]
    assert roll_back("muq") == new
    assert [(s.status, bool(s.kept_at)) for s in EmbeddingSpace.objects.order_by("pk")] == [
        ("kept", True),
        ("live", False),
    ]


def test_rollback_without_a_kept_space_says_so() -> None:
    make_space("new")
    with pytest.raises(NoSuchSpace, match="nothing to go back to"):
        roll_back("muq")
    assert statuses() == ["live"]


# The end


def test_kept_space_is_dropped_when_its_days_are_over(settings: Any) -> None:
    settings.KEEP_SPACES_DAYS = 7
    for model, days in (("muq", 8), ("mert", 6)):
        kept = make_space("old", "kept", model=model)
        EmbeddingSpace.objects.filter(pk=kept.pk).update(kept_at=timezone.now() - timedelta(days=days))
    assert drop_expired() == 1
    assert (statuses("muq"), statuses("mert")) == (["dropping"], ["kept"])


def test_build_that_became_live_meanwhile_is_not_dropped() -> None:
    build = make_space("new", "building")
    make_live(EmbeddingSpace.objects.all())
    assert not drop(build)
    assert statuses() == ["live"]


# Writing


@pytest.mark.parametrize("status", ["kept", "dropping"])
def test_nothing_is_written_into_a_space_that_search_left(status: str) -> None:
    space = make_space("new")
    EmbeddingSpace.objects.update(status=status)
    with pytest.raises(FingerprintChanged, match="muq"), transaction.atomic():
        lock_for_writing([space])


def test_builds_and_live_spaces_may_be_written_unless_their_fingerprint_is_another() -> None:
    spaces = [make_space("old"), make_space("new", "building")]
    with transaction.atomic():
        lock_for_writing(spaces)
    EmbeddingSpace.objects.filter(status="building").update(fingerprint="other")
    with pytest.raises(FingerprintChanged), transaction.atomic():
        lock_for_writing(spaces)
