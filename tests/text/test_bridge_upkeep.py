"""Bridges come by themselves, as soon as there is something to learn from, and follow what search uses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from django.core.management import call_command
from django_q.models import OrmQ

from batches import services, tasks
from batches.engine import completion
from batches.requests import JobRequest
from embeddings.management.commands import fit_text_bridge
from embeddings.models import EmbeddingSpace
from embeddings.search import bridge_fitting
from embeddings.search.bridge import bridge_between
from embeddings.search.bridge_upkeep import bridges_due, fit_due_bridges
from embeddings.search.text import text_support_in
from tests.text.conftest import make_library

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def test_a_bridge_that_is_missing_is_due_once_both_models_have_tracks(bridges: Path) -> None:
    assert bridges_due() == []
    make_library(30)
    assert bridges_due() == ["mert"]


def test_too_few_tracks_teach_nothing(bridges: Path) -> None:
    make_library(29)
    assert bridges_due() == []


def test_what_is_fitted_is_in_use_and_not_due_any_more(bridges: Path) -> None:
    library = make_library(50)
    assert [bridge.origin.model for bridge in fit_due_bridges()] == ["mert"]
    assert bridge_between(library.words, library.space, "mert").origin.tracks == 50
    assert bridges_due() == []


def test_its_worth_is_told_with_the_model(bridges: Path) -> None:
    library = make_library(50)
    (bridge,) = fit_due_bridges()
    support = text_support_in("mert", {"muq": library.words, "mert": library.space}, "")
    assert (support.kind, support.recall) == ("bridged", bridge.origin.recall)


def test_other_vectors_make_it_due_again(bridges: Path) -> None:
    make_library(50)
    list(fit_due_bridges())
    EmbeddingSpace.objects.filter(model="mert").update(fingerprint="other")
    assert bridges_due() == ["mert"]


def test_twice_the_tracks_make_it_due_again(bridges: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_library(60)
    with monkeypatch.context() as patch:
        patch.setattr(bridge_fitting, "MOST_TRACKS", 30)
        patch.setattr(bridge_fitting, "BLOCK", 30)
        list(fit_due_bridges())
    assert bridges_due() == ["mert"]


def test_a_large_library_is_learnt_from_in_part(bridges: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_library(300)
    monkeypatch.setattr(bridge_fitting, "MOST_TRACKS", 200)
    (bridge,) = fit_due_bridges()
    assert 200 <= bridge.origin.tracks < 300


def test_the_end_of_a_job_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "reconcile_with_milvus", lambda *_: None)
    monkeypatch.setattr(completion, "point_aliases", lambda *_: None)
    job = services.start_job(JobRequest(["muq"]))
    completion.complete(job, lambda: None)
    wanted = [message.func() for message in OrmQ.objects.all()]
    assert "batches.tasks.fit_bridges" in wanted


def test_the_light_worker_has_others_do_it(bridges: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_library(50)
    busy = subprocess.Popen(["sleep", "60"])
    monkeypatch.setitem(tasks._at_work, "fit_text_bridge", busy)
    assert tasks.fit_bridges() == "is being done"
    busy.kill()
    busy.wait()
    list(fit_due_bridges())
    assert tasks.fit_bridges() == "nothing to do"


def test_the_command_fits_what_is_due(
    bridges: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_text_bridge, "die_with_parent", lambda: None)  # pytest shall not
    make_library(50)
    call_command("fit_text_bridge", "--due")
    assert "mert answers to texts, learnt from 50 tracks" in capsys.readouterr().out
    assert bridges_due() == []
