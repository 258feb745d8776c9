"""The dry run: what a job would do, and whether it fits."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.core.management import CommandError, call_command

from batches import services
from batches.models import BatchJob, ModelProgress, TrackResult
from batches.requests import JobRequest
from batches.selectors import dry_run as module
from batches.selectors.dry_run import DiskFull, Preview, preview, require_free_disk
from batches.terminal.dry_run import preview_text
from embeddings.embedder.client import EmbedderClient
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.library.sync import sync_tracks
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.spaces.lifecycle import space_for
from embeddings.spaces.reuse import NO_FILE
from tests.batches.conftest import Music, RunToEnd
from tests.batches.rows import make_embedding, make_job, make_space
from tests.instances import EmbedderProcess
from tests.milvus import LiteServer

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def library(music: Music, *names: str) -> dict[str, Track]:
    for name in names:
        music.add_row(f"{name}.flac")
    sync_tracks()
    return Track.objects.in_bulk()


@pytest.fixture
def space(embedder: EmbedderProcess) -> EmbeddingSpace:
    """The live space of the weights that the embedder has."""
    return space_for("muq", EmbedderClient().describe("muq"))


def counts(found: Preview) -> dict[str, int]:
    return {reason: number for reason, number in found.models[0].tracks.items() if number}


def test_every_track_is_counted_with_its_reason(music: Music, space: EmbeddingSpace) -> None:
    tracks = library(music, "new", "changed", "failed", "kept")
    for name in ("changed", "kept"):
        make_embedding(space, tracks[name])
    music.change("changed", size=7)
    make_job([tracks["failed"]]).results.update(status=TrackResult.Status.FAILED)
    found = preview(JobRequest(["muq"]))
    assert counts(found) == {"new": 1, "changed": 1, "failed before": 1, "up to date": 1}
    assert (found.tracks, found.models[0].audio_seconds, found.models[0].vectors) == (4, 6.0, 2)


def test_nothing_is_written(music: Music, space: EmbeddingSpace) -> None:
    music.add_row("a.flac")
    preview()
    rows = (Track.objects.count(), BatchJob.objects.count(), EmbeddingSpace.objects.count())
    assert rows == (0, 0, 1)


def test_clear_existing_makes_everything_anew(music: Music, space: EmbeddingSpace) -> None:
    make_embedding(space, library(music, "a", "b")["a"])
    found = preview(JobRequest(["muq"], clear_existing=True))
    assert (counts(found), found.models[0].vectors, found.models[0].gone) == ({"anew": 2}, 2, 0)


def test_embeddings_of_gone_tracks_are_counted(music: Music, space: EmbeddingSpace) -> None:
    for track in library(music, "a", "b").values():
        make_embedding(space, track)
    music.remove("b")
    assert (preview(JobRequest(["muq"])).models[0].gone, preview(JobRequest(["muq"], limit=5)).models[0].gone) == (1, 0)


def test_a_vector_that_is_leaving_comes_back_with_its_track(music: Music, space: EmbeddingSpace) -> None:
    tracks = library(music, "a", "b")
    make_embedding(space, tracks["a"], index_state=Embedding.IndexState.DELETING)
    make_embedding(space, tracks["b"], index_state=Embedding.IndexState.DELETING, size=NO_FILE)  # given to another
    assert counts(preview(JobRequest(["muq"]))) == {"new": 1, "up to date": 1}


def test_vectors_of_a_space_that_is_dropped_are_none(music: Music, space: EmbeddingSpace) -> None:
    make_embedding(space, library(music, "a")["a"])
    EmbeddingSpace.objects.update(status="dropping")
    assert counts(preview(JobRequest(["muq"])))["new"] == 1


def test_other_weights_leave_nothing_to_use(music: Music, embedder: EmbedderProcess) -> None:
    make_embedding(make_space("muq", "other"), library(music, "a")["a"])
    found = preview(JobRequest(["muq"]))
    assert (found.models[0].fingerprint_changed, counts(found)) == (True, {"new": 1})


def test_a_part_of_the_library(music: Music, space: EmbeddingSpace) -> None:
    library(music, "a", "b", "c")
    assert preview(JobRequest(["muq"], path_prefix=str(music.root / "b"))).tracks == 1
    assert preview(JobRequest(["muq"], limit=2)).tracks == 2


def test_a_limit_counts_only_tracks_that_need_work(music: Music, space: EmbeddingSpace) -> None:
    make_embedding(space, library(music, "a", "b", "c")["a"])
    assert counts(preview(JobRequest(["muq"], limit=1))) == {"new": 1, "up to date": 1}


def test_time_follows_from_the_rate_measured_last(music: Music, space: EmbeddingSpace) -> None:
    job = make_job(list(library(music, "a", "b").values()))
    ModelProgress.objects.filter(job=job).update(rate=8.0)
    assert preview(JobRequest(["muq"])).work_seconds == pytest.approx(0.5)


def test_without_a_measured_rate_the_time_is_unknown(music: Music, space: EmbeddingSpace) -> None:
    library(music, "a")
    assert preview(JobRequest(["muq"])).work_seconds is None
    make_embedding(space, Track.objects.get())
    assert preview(JobRequest(["muq"])).work_seconds == 0


def test_without_an_embedder_the_weights_of_this_machine_are_looked_at(
    music: Music, space: EmbeddingSpace, embedder: EmbedderProcess, checkpoints: dict[str, Path], settings: Any
) -> None:
    make_embedding(space, library(music, "a", "b")["a"])
    embedder.kill()
    settings.MODEL_SOURCES = {key: str(folder) for key, folder in checkpoints.items()}
    found = preview(JobRequest(["muq"]))
    assert (counts(found), found.models[0].problem) == ({"new": 1, "up to date": 1}, "")


def test_no_weights_are_needed(music: Music, embedder: EmbedderProcess) -> None:
    library(music, "a", "b")
    embedder.kill()  # and the published weights are not on this machine
    model = preview(JobRequest(["mert"])).models[0]
    assert (model.tracks["new"], model.audio_seconds, model.dimension) == (2, 4.0, 76_800)
    assert "fetch_models" in model.problem
    assert model.download_bytes == pytest.approx(1.26e9, rel=0.01)


def test_a_person_reads_how_big_the_download_is(music: Music, embedder: EmbedderProcess) -> None:
    library(music, "a", "b")
    embedder.kill()
    out = StringIO()
    call_command("embed_library", "--dry-run", stdout=out)
    assert "muq: the weights OpenMuQ/MuQ-MuLan-large are not on this machine" in out.getvalue()
    assert "(2.66 GB)" in out.getvalue()


# It agrees with the job


def test_ids_that_all_change_at_once_cost_nothing(
    music: Music, space: EmbeddingSpace, milvus: LiteServer, run_to_end: RunToEnd
) -> None:
    """Navidrome 0.64 gave 98 of 100 tracks a new id in one scan."""
    for track in library(music, "a", "b", "c").values():
        make_embedding(space, track)
    for name in "abc":
        music.change(name, id=f"new-{name}")
    found = preview(JobRequest(["muq"]))
    assert (counts(found), found.models[0].work_seconds, found.models[0].gone) == ({"new id": 3}, 0, 0)
    job = run_to_end(services.start_job(JobRequest(["muq"])))
    assert (job.total_tracks, job.progress.get().skipped["new id"]) == (0, 3)


def test_a_file_that_has_moved_is_said_to_be_the_same(music: Music, space: EmbeddingSpace) -> None:
    for track in library(music, "a", "b").values():
        make_embedding(space, track)
    music.change("a", id="moved", path="elsewhere.flac", updated_at="2031-01-01")
    found = preview(JobRequest(["muq"]))
    assert (counts(found), found.models[0].audio_seconds) == ({"same audio": 1, "up to date": 1}, 0)


def test_a_vector_is_taken_over_once(music: Music, space: EmbeddingSpace) -> None:
    track = library(music, "a")["a"]
    make_embedding(space, track)
    music.change("a", id="one")
    music.add_row("a.flac", id="two", updated_at=track.mtime)
    assert counts(preview(JobRequest(["muq"]))) == {"new": 1, "new id": 1}


def test_a_build_that_was_left_goes_on(music: Music, space: EmbeddingSpace) -> None:
    tracks = library(music, "a", "b")
    make_embedding(space, tracks["a"])
    build = space_for("muq", EmbedderClient().describe("muq"), anew=True)
    make_embedding(build, tracks["b"])
    assert counts(preview(JobRequest(["muq"], clear_existing=True))) == {"anew": 1, "up to date": 1}


def test_a_part_that_is_cleared_takes_no_more_room(music: Music, space: EmbeddingSpace) -> None:
    make_embedding(space, library(music, "a", "b")["a"])
    found = preview(JobRequest(["muq"], clear_existing=True, library_id=1))
    assert (counts(found), found.models[0].vectors) == ({"anew": 2}, 1)


def test_the_command_prints_a_table(music: Music, space: EmbeddingSpace) -> None:
    library(music, "a", "b")
    out = StringIO()
    call_command("embed_library", "--dry-run", "--models", "muq", stdout=out)
    assert "2 tracks" in out.getvalue()
    assert "not measured yet" in out.getvalue()


def test_the_command_prints_json(music: Music, space: EmbeddingSpace) -> None:
    library(music, "a", "b")
    out = StringIO()
    call_command("embed_library", "--dry-run", "--json", stdout=out)
    found = json.loads(out.getvalue())
    assert [model["tracks"]["new"] for model in found["models"].values()] == [2, 2, 2]


# Room on the disk


class Usage(NamedTuple):
    free: int


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Say how many bytes are free: a disk that is full would need its owner's rights."""

    def free(number: int) -> None:
        monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage(number))

    return free


def test_a_job_that_does_not_fit_is_refused_with_the_figures(music: Music, free: Any) -> None:
    library(music, *(f"t{number}" for number in range(20)))
    free(300_000)
    with pytest.raises(DiskFull, match=r"about [\d.]+ [kM]B in /.*, where 300 kB are free"):
        require_free_disk(JobRequest(["mert"]))
    require_free_disk(JobRequest(["latent"]))


def test_what_is_there_already_needs_no_room(music: Music, free: Any) -> None:
    make_embedding(make_space(), library(music, "a")["a"])
    free(0)
    require_free_disk(JobRequest(["muq"]))
    with pytest.raises(DiskFull):
        require_free_disk(JobRequest(["muq"], clear_existing=True))


def test_a_limit_bounds_what_is_needed(music: Music, free: Any) -> None:
    library(music, *(f"t{number}" for number in range(20)))
    free(300_000)
    with pytest.raises(DiskFull):
        require_free_disk(JobRequest(["mert"]))
    require_free_disk(JobRequest(["mert"], limit=1))


def test_a_library_that_is_away_refuses_nothing(music: Music, free: Any) -> None:
    free(0)
    music.database.unlink()
    require_free_disk()


def test_servers_elsewhere_need_nothing_here(music: Music, free: Any, settings: Any) -> None:
    library(music, "a")
    free(0)
    settings.MILVUS_URI = "http://milvus:19530"
    if module.connection.vendor == "sqlite":
        with pytest.raises(DiskFull):
            require_free_disk(JobRequest(["muq"]))
    else:
        require_free_disk(JobRequest(["muq"]))


# Pruning by hand


def test_pruning_by_hand_needs_a_yes_when_most_are_gone(music: Music) -> None:
    space = make_space()
    make_embedding(space, library(music, "a")["a"])
    Track.objects.update(playable=False)
    out = StringIO()
    call_command("prune", "--dry-run", stdout=out)
    assert "1 embeddings of tracks that are gone or away" in out.getvalue()
    with pytest.raises(CommandError, match="1 of 1 muq embeddings"):
        call_command("prune")
    assert not space.embeddings.filter(index_state="deleting")


def test_table_fits_a_terminal() -> None:
    numbers = dict.fromkeys(module.VERDICTS, 999_999)
    models = [module.ModelPreview(key, 1536, False, tracks=numbers, audio_seconds=1e9) for key in MODEL_KEYS]
    lines = preview_text(Preview(999_999, models, [])).splitlines()
    assert lines[0].split() == ["999,999", "tracks"]
    assert max(len(line.rstrip()) for line in lines) <= 80
