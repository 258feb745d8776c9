"""A model that cannot be loaded is left out; the others go on, and it is said how to get the rest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Count

from batches import services
from batches.engine import plan, runner
from batches.engine.leases import DeviceLease, Lease
from batches.models import BatchJob
from batches.requests import JobRequest
from batches.selectors.progress import contract_progress
from embeddings.embedder.client import EmbedderClient
from embeddings.errors import WeightsMissing
from embeddings.models import Embedding, EmbeddingSpace
from tests.batches.conftest import Music, RunToEnd
from tests.batches.rows import device, elsewhere, work_on
from tests.batches.whole_jobs import end_turn
from tests.instances import EmbedderProcess

pytestmark = pytest.mark.usefixtures("db", "milvus", "no_pauses")

Status = BatchJob.Status
Spoil = Callable[[Path], object]


def missing(folder: Path) -> None:
    shutil.rmtree(folder)


def damaged(folder: Path) -> None:
    (folder / "music2latent.pt").write_bytes(b"<html>502 Bad Gateway</html>")


@pytest.fixture(scope="module")
def folder(embedder_process: EmbedderProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the running embedder looks for Latent's weights."""
    folder = tmp_path_factory.mktemp("weights") / "latent"
    embedder_process.restart(NAVEMBED_LATENT=str(folder))
    yield folder
    embedder_process.kill()


@pytest.fixture
def latent(folder: Path, checkpoints: dict[str, Path]) -> Path:
    """Latent's weights, whole and not loaded; the test may spoil them."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(checkpoints["latent"], folder)
    EmbedderClient().unload("latent")
    return folder


@pytest.mark.parametrize("spoil", [missing, damaged])
def test_the_others_go_on(four: Music, latent: Path, run_to_end: RunToEnd, spoil: Spoil) -> None:
    spoil(latent)
    job = run_to_end(services.start_job(JobRequest(["muq", "latent"])))
    assert (job.status, job.processed_tracks, job.failed_tracks) == (Status.COMPLETED_WITH_ERRORS, 4, 0)
    assert Embedding.objects.filter(space__model="muq").count() == 4
    assert "latent is left out: " in job.message
    assert "embed_library --models latent" in job.message


def test_what_was_planned_already_is_not_tried(four: Music, latent: Path, run_to_end: RunToEnd, lease: Lease) -> None:
    job = services.start_job(JobRequest(["muq", "latent"]))
    plan.plan(job, lease, lease.renew)
    services.leave_out(job, "latent", "latent does not fit in the memory of cuda")
    assert set(job.results.values_list("model", flat=True)) == {"muq"}
    lease.release()
    assert "latent does not fit" in run_to_end(job).message


def test_a_device_goes_on_with_the_models_that_it_has_while_another_has_the_rest(
    four: Music, latent: Path, lease: DeviceLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere()
    job = services.start_job(JobRequest(["muq", "latent"]))
    plan.plan(job, lease, lease.renew)
    EmbedderClient().unload("latent")
    missing(latent)
    lease.release()
    monkeypatch.setattr(runner._TimeSlice, "_sleep", end_turn)
    assert work_on() == "goes on"
    job.refresh_from_db()
    assert (job.status, "there is no folder" in device().problem) == ("running", True)
    counts = job.results.values_list("model", "status").annotate(Count("pk")).order_by("model")
    assert list(counts) == [("latent", "pending", 4), ("muq", "succeeded", 4)]
    assert not job.progress.exclude(left_out="").exists()


def test_the_panel_shows_what_is_left_out() -> None:
    job = services.start_job(JobRequest(["muq", "latent"]))
    services.set_running(job)
    services.leave_out(job, "latent", "its weights are damaged")
    BatchJob.objects.update(current_track="[muq] Artist - Title")
    job.refresh_from_db()
    assert contract_progress(job)["current_track"] == "[muq] Artist - Title (without latent)"
    services.set_completed(job)
    assert "latent is left out: its weights are damaged" in contract_progress(job)["current_track"]


def test_a_job_without_any_model_fails() -> None:
    job = services.start_job(JobRequest(["latent"]))
    services.set_running(job)
    services.leave_out(job, "latent", "its weights are damaged")
    assert (job.status, "its weights are damaged" in job.message) == (Status.FAILED, True)


def test_a_build_of_a_model_that_is_left_out_waits_for_the_next_job(
    four: Music, latent: Path, run_to_end: RunToEnd
) -> None:
    run_to_end(services.start_job(JobRequest(["muq", "latent"])))
    damaged(latent)
    run_to_end(services.start_job(JobRequest(["muq", "latent"], clear_existing=True)))
    live = EmbeddingSpace.objects.filter(status="live")
    assert sorted(live.values_list("model", flat=True)) == ["latent", "muq"]


def test_the_rest_comes_with_the_weights(four: Music, latent: Path, run_to_end: RunToEnd, tmp_path: Path) -> None:
    kept = shutil.copytree(latent, tmp_path / "kept")
    damaged(latent)
    run_to_end(services.start_job(JobRequest(["muq", "latent"])))
    shutil.copytree(kept, latent, dirs_exist_ok=True)
    assert run_to_end(services.start_job(JobRequest(["muq", "latent"]))).status == Status.COMPLETED
    assert Embedding.objects.filter(space__model="latent").count() == 4


# At the start


@pytest.mark.real_weights
def test_the_embedder_knows_where_weights_are(four: Music, latent: Path) -> None:
    missing(latent)
    assert set(EmbedderClient().status()["problems"]) == {"muq", "mert", "latent"}
    assert services.start_job(JobRequest(["muq", "latent"])).status == Status.INITIALIZED
    services.cancel_all()
    with pytest.raises(services.JobConflict, match="no job was started"):
        services.start_job(JobRequest(["latent"]))


def test_an_error_names_the_model_that_it_concerns(latent: Path) -> None:
    missing(latent)
    with pytest.raises(WeightsMissing) as failure:
        EmbedderClient().describe("latent")
    assert failure.value.model == "latent"


@pytest.mark.real_weights
def test_a_start_without_any_weights_is_refused(
    four: Music, embedder_process: EmbedderProcess, tmp_path: Path, settings: Any
) -> None:
    if embedder_process.running:
        embedder_process.kill()
    settings.MODEL_SOURCES = {key: str(tmp_path / "none") for key in settings.MODEL_SOURCES}
    with pytest.raises(services.JobConflict, match=r"there is no folder .*none"):
        services.start_job()
    with pytest.raises(CommandError, match=r"there is no folder .*none"):
        call_command("embed_library", "--no-wait")
    assert not BatchJob.objects.exists()
