"""Music that is away: nothing that was computed is deleted for it, no track fails for it, and it is said."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from batches import services
from batches.engine import plan
from batches.engine.in_hand import ChunkInHand
from batches.engine.leases import DeviceLease
from batches.models import BatchJob
from batches.requests import JobRequest
from embeddings.errors import LibraryUnavailable
from embeddings.library import reader, storage
from embeddings.library.away import away, away_text
from embeddings.library.storage import why_away
from embeddings.library.sync import sync_tracks
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.spaces.pruning import prune
from tests.batches.conftest import Music, RunToEnd
from tests.batches.rows import make_embedding, make_job, make_space
from tests.batches.whole_jobs import run_until_waiting
from tests.chaos.share import hold_files
from tests.instances import EmbedderProcess

pytestmark = [pytest.mark.django_db, pytest.mark.database]
Status = BatchJob.Status


def start(**options: Any) -> BatchJob:
    return services.start_job(JobRequest(["latent"], **options))


def embedded() -> list[str]:
    """Tracks whose vector stays."""
    return sorted(Embedding.objects.exclude(index_state="deleting").values_list("track_id", flat=True))


def scanned(music: Music, names: Iterable[str]) -> EmbeddingSpace:
    """Tracks that a scan has seen, each with a vector."""
    for name in names:
        music.add_row(f"{name}.flac")
        (music.root / f"{name}.flac").touch()
    sync_tracks()
    space = make_space()
    for track in Track.objects.all():
        make_embedding(space, track)
    return space


def scan_and_prune(space: EmbeddingSpace) -> None:
    sync_tracks()
    prune(space, lambda: None)


# Through whole jobs


@pytest.fixture
def two_disks(tmp_path: Path, pool: list[Path], settings: Any, milvus: object, embedder: object) -> Path:
    """A plain folder of music, a part of which lies on a disk of its own."""
    root = tmp_path / "music"
    for number, name in enumerate(["local/a", "local/b", "local/c", "nas/d", "nas/e"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pool[0], root / f"{name}{number}.flac")
    settings.LIBRARY, settings.NAVIDROME_MUSIC_ROOT = "folder", root
    return root


def test_a_disk_that_is_not_mounted_costs_nothing(two_disks: Path, run_to_end: RunToEnd) -> None:
    run_to_end(start())
    before = embedded()
    (two_disks / "nas").rename(two_disks.parent / "disk")
    (two_disks / "nas" / "lost+found").mkdir(parents=True)
    job = run_to_end(start())
    assert (job.status, embedded()) == (Status.COMPLETED, before)
    assert f"2 tracks are away since {timezone.localtime():%Y-%m-%d}" in job.message
    assert f"below {two_disks / 'nas'}" in job.message
    shutil.rmtree(two_disks / "nas")
    (two_disks.parent / "disk").rename(two_disks / "nas")
    job = run_to_end(start())
    assert (job.status, job.total_tracks, job.message) == (Status.COMPLETED, 0, "")


@pytest.mark.parametrize("left", ["empty", "nothing"])
@pytest.mark.usefixtures("no_pauses", "one_track_a_chunk")
def test_a_disk_that_is_unmounted_in_the_middle_fails_no_track(
    two_disks: Path, run_to_end: RunToEnd, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    ask = ChunkInHand.ask

    def unmount_after(work: ChunkInHand) -> None:
        ask(work)
        (two_disks / "nas").rename(two_disks.parent / "disk")
        if left == "empty":
            (two_disks / "nas").mkdir()
        monkeypatch.setattr(ChunkInHand, "ask", ask)

    monkeypatch.setattr(ChunkInHand, "ask", unmount_after)
    job = run_to_end(start())
    away_now = 5 - job.processed_tracks
    assert (job.status, job.failed_tracks, job.total_tracks) == (Status.COMPLETED, 0, 5 - away_now)
    assert away_now in (1, 2)
    assert f"away since {timezone.localtime():%Y-%m-%d}" in job.message
    assert f"below {two_disks / 'nas'}" in job.message
    shutil.rmtree(two_disks / "nas", ignore_errors=True)
    (two_disks.parent / "disk").rename(two_disks / "nas")
    job = run_to_end(start())
    assert (job.status, job.processed_tracks, job.message) == (Status.COMPLETED, away_now, "")


@pytest.mark.usefixtures("milvus", "embedder", "no_pauses")
def test_a_share_that_answers_with_errors_makes_the_job_wait(
    four: Music, run_to_end: RunToEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = four.root.with_name("share")
    shutil.copytree(four.root, share)
    for path in four.root.iterdir():
        path.unlink()
        path.symlink_to("/proc/self/mem")  # reading it is an input/output error
    job = start()
    assert "cannot be read: Input/output error" in run_until_waiting(job, monkeypatch)
    assert not job.results.exclude(status="pending").exists()
    for path in share.iterdir():
        (four.root / path.name).unlink()
        path.rename(four.root / path.name)
    assert (run_to_end(job).status, job.processed_tracks) == (Status.COMPLETED, 4)


@pytest.mark.usefixtures("milvus", "embedder")
def test_a_library_at_another_place_names_the_settings(four: Music, monkeypatch: pytest.MonkeyPatch) -> None:
    (four.root / "elsewhere").mkdir()
    for path in four.root.glob("*.flac"):
        path.rename(four.root / "elsewhere" / path.name)
    told = run_until_waiting(start(), monkeypatch)
    assert "NAVIDROME_MUSIC_ROOT and NAVEMBED_PATH_MAP" in told


@pytest.mark.usefixtures("milvus", "no_pauses")
def test_a_share_that_does_not_answer_is_told_of_and_kills_no_embedder(
    four: Music, run_to_end: RunToEnd, embedder: EmbedderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "STORAGE_SECONDS", 1.0)
    monkeypatch.setattr(storage, "LOOK_SECONDS", 1.0)
    job, pid = start(), embedder.pid
    let_go = hold_files(four.root.iterdir())
    assert run_until_waiting(job, monkeypatch) == f"the music folder {four.root} does not answer"
    let_go()
    assert (run_to_end(job).status, job.processed_tracks, embedder.pid) == (Status.COMPLETED, 4, pid)
    assert not job.results.exclude(deaths=0).exists()


@pytest.mark.usefixtures("milvus", "embedder", "one_track_a_chunk")
def test_a_library_that_is_away_does_not_keep_another_from_being_embedded(
    four: Music, lease: DeviceLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    nas = four.root.with_name("nas")
    four.add_library(2, nas)
    for number in range(3):
        shutil.copy(four.pool[0], nas / f"a{number}.flac")
        four.add_row(f"a{number}.flac", library_id=2)
    job = start()
    plan.plan(job, lease, lease.renew)
    shutil.rmtree(nas)
    lease.release()
    assert run_until_waiting(job, monkeypatch) == f"the music folder {nas} is empty or not mounted"
    assert embedded() == ["track0", "track1", "track2", "track3"]
    assert list(job.results.exclude(status="succeeded").values_list("status", "attempts")) == [("pending", 0)] * 3


# What is kept, and what goes


def test_what_navidrome_calls_missing_is_kept(music: Music) -> None:
    space = scanned(music, "abcd")
    music.change("d", missing=1)
    scan_and_prune(space)
    assert embedded() == ["a", "b", "c", "d"]
    assert [(each.folder, each.tracks) for each in away()] == [(str(music.root), 1)]


def test_what_navidrome_has_deleted_goes_at_once(music: Music) -> None:
    space = scanned(music, "abcd")
    music.remove("d")
    scan_and_prune(space)
    assert (embedded(), away()) == (["a", "b", "c"], [])


@pytest.mark.parametrize("left", [(), ("lost+found",)])
def test_what_is_deleted_while_the_folder_is_not_there_is_kept(music: Music, left: tuple[str, ...]) -> None:
    space = scanned(music, "abcd")
    music.remove("d")
    shutil.rmtree(music.root)
    for name in left:
        (music.root / name).mkdir(parents=True)
    scan_and_prune(space)
    assert embedded() == ["a", "b", "c", "d"]


@pytest.mark.parametrize("place", ["empty", "lost+found", "link"])
def test_what_navidrome_purges_while_a_part_of_the_library_is_away_is_kept(music: Music, place: str) -> None:
    (music.root / "nas" / "album").mkdir(parents=True)
    space = scanned(music, ["a", "b", "c", "nas/album/d"])
    music.remove("nas/album/d")
    shutil.rmtree(music.root / "nas")
    if place == "link":
        (music.root / "nas").symlink_to(music.root.parent / "not mounted")
    else:
        (music.root / "nas" / place.replace("empty", "")).mkdir(parents=True)
    scan_and_prune(space)
    assert embedded() == ["a", "b", "c", "nas/album/d"]


def test_what_navidrome_has_deleted_with_its_folder_goes_at_once(music: Music) -> None:
    (music.root / "album").mkdir()
    space = scanned(music, ["a", "b", "c", "album/d"])
    music.remove("album/d")
    shutil.rmtree(music.root / "album")
    scan_and_prune(space)
    assert embedded() == ["a", "b", "c"]


def test_what_was_away_and_is_then_deleted_goes(music: Music) -> None:
    space = scanned(music, "abcd")
    music.change("d", missing=1)
    scan_and_prune(space)
    music.remove("d")
    scan_and_prune(space)
    assert embedded() == ["a", "b", "c"]


def test_what_comes_back_is_not_away(music: Music) -> None:
    scanned(music, "ab")
    music.change("b", missing=1)
    sync_tracks()
    music.change("b", missing=0)
    sync_tracks()
    assert (away(), away_text()) == ([], "")


@pytest.mark.parametrize(("days", "kept"), [(29, True), (31, False)])
def test_what_is_away_for_too_long_goes(music: Music, days: int, kept: bool) -> None:
    space = scanned(music, "abcd")
    music.change("d", missing=1)
    sync_tracks()
    Track.objects.filter(pk="d").update(away_since=timezone.now() - timedelta(days=days))
    scan_and_prune(space)
    assert ("d" in embedded()) is kept


def test_a_human_may_give_up_what_is_away(music: Music, milvus: object) -> None:
    scanned(music, "abcd")
    music.change("d", missing=1)
    sync_tracks()
    call_command("prune", "--yes")
    assert embedded() == ["a", "b", "c"]


# Looking at storage


def test_one_file_that_cannot_be_read_is_its_own_fault(music: Music) -> None:
    scanned(music, "abc")
    (music.root / "b.flac").unlink()
    (music.root / "b.flac").symlink_to("/proc/self/mem")
    assert why_away([str(music.root / "b.flac")]) == ""


@pytest.fixture
def odd_root(tmp_path: Path, settings: Any) -> Path:
    """A folder of music whose name is no UTF-8, with three tracks that a scan has seen."""
    root = tmp_path / os.fsdecode(b"caf\xe9")
    root.mkdir()
    for name in "abc":
        (root / f"{name}.flac").touch()
    settings.LIBRARY, settings.NAVIDROME_MUSIC_ROOT = "folder", root
    sync_tracks()
    return root


def test_a_music_folder_whose_name_is_no_text_is_looked_at(odd_root: Path) -> None:
    tracks = list(Track.objects.all())
    assert why_away([track.path for track in tracks]) == ""
    shutil.rmtree(odd_root)
    reason = why_away([track.path for track in tracks])
    assert reason.endswith("is empty or not mounted")
    assert services.set_waiting(make_job(tracks), reason)


def test_a_library_whose_folder_is_no_text_makes_a_job_wait(odd_root: Path) -> None:
    job = make_job(list(Track.objects.all()))
    shutil.rmtree(odd_root)
    with pytest.raises(LibraryUnavailable, match=r"caf\? \(NAVIDROME_MUSIC_ROOT\) cannot be read") as caught:
        sync_tracks()
    assert services.set_waiting(job, str(caught.value))


def test_a_share_that_does_not_answer_is_named(music: Music, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned(music, "abc")
    monkeypatch.setattr(storage, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(reader, "COMMAND", ["sleep", "60"])
    assert why_away([str(music.root / "b.flac")]) == f"the music folder {music.root} does not answer"


def test_of_two_folders_the_one_that_is_away_is_named(music: Music) -> None:
    music.add_library(2, music.root.with_name("nas"))
    scanned(music, "abc")
    failed = [str(music.root / "gone.flac"), str(music.root.with_name("nas") / "d.flac")]
    assert why_away(failed) == f"the music folder {music.root.with_name('nas')} is empty or not mounted"


def test_a_share_that_is_slow_answers(music: Music, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned(music, "abc")
    monkeypatch.setattr(storage, "LOOK_SECONDS", 5.0)
    answer = "import sys, time; request = sys.stdin.readline(); time.sleep(3); print('{\"there\": true}', flush=True)"
    answers = "[(time.sleep(1), print('{\"problem\": null}', flush=True)) for _ in range(3)]; sys.stdin.read()"
    monkeypatch.setattr(reader, "COMMAND", [sys.executable, "-c", f"{answer}; {answers}"])
    assert why_away([str(music.root / f"{name}.flac") for name in "abc"]) == ""
