"""Jobs that build beside what search uses, and jobs that find out what need not be computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command

from batches import services
from batches.models import BatchJob
from batches.requests import JobRequest
from embeddings.index.sync import vector_store
from embeddings.models import Embedding, EmbeddingSpace
from embeddings.search.neighbours import nearest_to_track
from embeddings.spaces.lifecycle import live_space
from tests.batches.conftest import Music, RunToEnd
from tests.batches.whole_jobs import at_event, computed

pytestmark = pytest.mark.usefixtures("milvus", "embedder", "no_pauses")

Status = BatchJob.Status
Act = Callable[[], object]


def spaces() -> list[str]:
    return list(EmbeddingSpace.objects.order_by("pk").values_list("status", flat=True))


def in_milvus() -> list[str]:
    space = live_space("latent")
    assert space
    return sorted(vector_store().ids(space.collection))


def start(**options: Any) -> BatchJob:
    return services.start_job(JobRequest(["latent"], **options))


# Beside what search uses


def test_first_build_is_live_from_its_first_chunk(
    four: Music, run_to_end: RunToEnd, one_track_a_chunk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    at_event(7, lambda: seen.append(in_milvus()), monkeypatch)
    run_to_end(start(clear_existing=True))
    assert seen == [["track0", "track1"]]
    assert spaces() == ["live"]


def test_search_uses_the_former_vectors_until_all_new_ones_are_there(
    four: Music, run_to_end: RunToEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_to_end(start())
    before, found = live_space("latent"), []

    def search() -> None:
        assert (live_space("latent"), spaces()) == (before, ["live", "building"])
        found.extend(nearest_to_track("latent", "track0", 3))

    at_event(5, search, monkeypatch)
    job = run_to_end(start(clear_existing=True))
    assert (len(found), spaces(), job.status) == (3, ["kept", "live"], Status.COMPLETED)
    assert job.message == "latent: 100% of the neighbours are those of the former vectors."
    assert in_milvus() == ["track0", "track1", "track2", "track3"]


def test_cancelled_build_touches_nothing_and_goes_on_in_the_next_start(
    four: Music, run_to_end: RunToEnd, one_track_a_chunk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_to_end(start())
    before = computed()
    with monkeypatch.context() as patch:
        at_event(5, services.cancel_all, patch)
        run_to_end(start(clear_existing=True))
    built = computed()
    assert (spaces(), before.items() <= built.items()) == (["live", "building"], True)
    assert 4 < len(built) < 8
    job = run_to_end(start(clear_existing=True))
    assert (job.total_tracks, spaces()) == (8 - len(built), ["kept", "live"])
    assert built.items() <= computed().items()


@pytest.mark.database
def test_track_that_changes_during_a_build_is_done_again_before_the_switch(
    four: Music, run_to_end: RunToEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_to_end(start())

    def change() -> None:
        four.add("other.mp3", seed=1)
        (four.root / "other.mp3").replace(four.root / "track1.flac")
        four.remove("other")
        four.change("track1", updated_at="2031-01-01")
        four.add("new.ogg", seed=2)

    at_event(5, change, monkeypatch)
    job = run_to_end(start(clear_existing=True))
    assert (job.status, job.total_tracks, job.processed_tracks) == (Status.COMPLETED, 5, 5)
    assert job.progress.get().succeeded == 5
    built = Embedding.objects.filter(space=live_space("latent"))
    assert built.get(track="track1").mtime == "2031-01-01"
    assert in_milvus() == ["new", "track0", "track1", "track2", "track3"]


def spoil(music: Music, name: str) -> None:
    """Overwrites a file with what is no audio; the library shows that it has changed."""
    (music.root / name).write_bytes(b"not audio any more" * 100)
    music.change(name.partition(".")[0], updated_at="2031-01-01")


def test_losing_many_vectors_waits_for_a_human(four: Music, run_to_end: RunToEnd) -> None:
    run_to_end(start())
    spoil(four, "track3.flac")
    job = run_to_end(start(clear_existing=True))
    assert (job.status, spaces()) == (Status.COMPLETED_WITH_ERRORS, ["live", "building"])
    assert "1 of 4 tracks (25.0%) have a vector now and would lose it" in job.message
    assert "spaces --make-live latent" in job.message
    call_command("spaces", "--make-live", "latent")
    assert spaces() == ["kept", "live"]


def test_a_bad_file_that_search_lacks_already_does_not_hold_a_build_back(four: Music, run_to_end: RunToEnd) -> None:
    four.add_damaged()
    assert run_to_end(start()).status == Status.COMPLETED_WITH_ERRORS
    job = run_to_end(start(clear_existing=True))
    assert (job.status, spaces()) == (Status.COMPLETED, ["kept", "live"])


@pytest.mark.database
def test_failed_track_keeps_its_former_vector(four: Music, run_to_end: RunToEnd) -> None:
    run_to_end(start())
    (four.root / "track2.flac").write_bytes(b"not audio any more" * 100)
    run_to_end(start(clear_existing=True))
    assert spaces() == ["kept", "live"]
    assert in_milvus() == ["track0", "track1", "track2", "track3"]


# What need not be computed


def test_edited_tags_cost_no_computing(four: Music, run_to_end: RunToEnd) -> None:
    run_to_end(start())
    vector = Embedding.objects.get(track="track1").vector
    four.change("track1", updated_at="2031-01-01", title="New title")
    job = run_to_end(start())
    assert list(job.results.values_list("track", "reason", "recognised", "seconds")) == [
        ("track1", "changed", True, None)
    ]
    row = Embedding.objects.get(track="track1")
    assert (row.vector, row.mtime, row.index_state) == (vector, "2031-01-01", "indexed")


@pytest.mark.database
def test_same_audio_with_another_id_and_path_takes_its_vector_along(four: Music, run_to_end: RunToEnd) -> None:
    run_to_end(start())
    four.remove("track1")
    (four.root / "track1.flac").rename(four.root / "moved.flac")
    four.add_row("moved.flac", updated_at="2031-01-01")
    job = run_to_end(start())
    assert list(job.results.values_list("track", "recognised")) == [("moved", True)]
    assert in_milvus() == ["moved", "track0", "track2", "track3"]


def test_gone_tracks_are_pruned(four: Music, run_to_end: RunToEnd) -> None:
    run_to_end(start())
    four.remove("track3")
    job = run_to_end(start())
    assert job.progress.get().skipped == {"up to date": 3, "pruned": 1}
    assert in_milvus() == ["track0", "track1", "track2"]
    assert Embedding.objects.count() == 3


def test_nothing_is_pruned_when_more_than_half_has_vanished(four: Music, run_to_end: RunToEnd) -> None:
    run_to_end(start())
    for number in range(3):
        four.remove(f"track{number}")
    job = run_to_end(start())
    assert (job.status, Embedding.objects.count()) == (Status.COMPLETED, 4)
    assert "3 of 4 latent embeddings" in job.message
    call_command("prune", "--yes")
    assert in_milvus() == ["track3"]


def lose_in_milvus(*track_ids: str) -> None:
    space = live_space("latent")
    assert space
    store = vector_store()
    store.delete(space.collection, list(track_ids))
    store.flush(space.collection)


def test_difference_to_milvus_is_mended_at_the_start(four: Music, run_to_end: RunToEnd) -> None:
    run_to_end(start())
    lose_in_milvus("track1", "track3")
    Embedding.objects.filter(track="track2").delete()
    job = run_to_end(start())
    assert job.progress.get().reconciled == {
        "start": {"missing": 2, "surplus": 1}, "end": {"missing": 0, "surplus": 0},
    }  # fmt: skip
    assert in_milvus() == ["track0", "track1", "track2", "track3"]


def test_difference_that_counts_do_not_show_is_mended_at_the_end(four: Music, run_to_end: RunToEnd) -> None:
    run_to_end(start())
    lose_in_milvus("track1")
    Embedding.objects.filter(track="track2").delete()
    job = run_to_end(start())
    assert job.progress.get().reconciled["end"] == {"missing": 1, "surplus": 0}
    assert in_milvus() == ["track0", "track1", "track2", "track3"]
