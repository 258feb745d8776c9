"""A music server gives almost a whole library new ids in one scan: nothing that names a track is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np
import pytest
from numpy.typing import NDArray

from batches import services
from batches.engine import plan as planner
from batches.engine.leases import DeviceLease
from batches.requests import JobRequest
from embeddings.library.sync import sync_tracks
from embeddings.models import BadFile, DuplicatePair, Embedding, EmbeddingSpace, Playlist, Track
from embeddings.playlists.recipe import Recipe, Role, keep, keep_tracks, kept, tracks_of
from embeddings.search.calibration import Calibration, calibrate, space_calibration
from embeddings.search.comparing import as_text, probe
from embeddings.search.deadline import Deadline
from embeddings.search.retrieval import group_calibrations
from embeddings.search.seeds import Group
from embeddings.spaces.vectors import to_bytes
from tests.batches.conftest import Music, lease, music, pool
from tests.batches.rows import make_space
from tests.index.conftest import unit
from tests.navidrome_db import add_tracks

__all__ = ["lease", "music", "pool"]

pytestmark = [pytest.mark.django_db, pytest.mark.database]

TRACKS, DIMENSION = 300, 12
KEPT = {"t000", "t050", "t100", "t150", "t200", "t250"}
IDS = [f"t{number:03}" for number in range(TRACKS)]
BAD = IDS[-1]


def new_id(track_id: str) -> str:
    """Another one, in another order."""
    return track_id if track_id in KEPT else f"{track_id[::-1]}-new"


def new_ids(*track_ids: str) -> list[str]:
    return [new_id(track_id) for track_id in track_ids]


@pytest.fixture
def space(music: Music) -> EmbeddingSpace:
    """Of all tracks but a bad one."""
    with closing(sqlite3.connect(music.database)) as connection:
        add_tracks(connection, [{"id": each, "path": f"{each}.flac", "duration": 2.0, "size": 1000} for each in IDS])
    sync_tracks()
    space = make_space(dimension=DIMENSION)
    fields = {"windows": 1, "audio_seconds": 2.0, "size": 1000}
    mtimes = dict(Track.objects.values_list("pk", "mtime"))
    Embedding.objects.bulk_create(
        Embedding(space=space, track_id=each, mtime=mtimes[each], vector=to_bytes(row, "float32"), **fields)
        for each, row in zip(IDS[:-1], unit(TRACKS - 1, DIMENSION), strict=True)
    )
    BadFile.objects.create(track_id=BAD, model="muq", size=1000, mtime=mtimes[BAD], ignored=True)
    calibrate(space)
    return space


def measure_of_a_text(space: EmbeddingSpace) -> Calibration:
    vector: NDArray[np.float32] = unit(1, DIMENSION, seed=7)[0]
    vector[DIMENSION // 3 :] = 0
    found = probe(vector)
    assert found
    [measure] = group_calibrations(
        space, [as_text(found)], [Group([0], np.ones(1))], space_calibration(space, Deadline(9)), Deadline(9)
    )
    return measure


def test_nothing_is_lost_and_nothing_is_computed_again(music: Music, space: EmbeddingSpace, lease: DeviceLease) -> None:
    playlist = Playlist.objects.create(name="Night", user="ann", recipe={})
    keep(playlist, Recipe(like=["t001", "t000", BAD], unlike=["t002"]))
    keep_tracks(playlist, Role.HELD, ["t003", BAD, "t050"])
    DuplicatePair.objects.create(one_id="t004", other_id="t005", similarity={}, same_audio=False, rejected=True)
    vectors = {track_id: bytes(vector) for track_id, vector in space.embeddings.values_list("track_id", "vector")}
    measure = measure_of_a_text(space)

    with closing(sqlite3.connect(music.database)) as connection, connection:
        connection.executemany("UPDATE media_file SET id = ? WHERE id = ?", [(new_id(each), each) for each in IDS])
    job = services.start_job(JobRequest(("muq",)))
    job.progress.update(space=space)
    planner.plan(job, lease, lease.renew)

    assert not job.results.exists()
    living = space.embeddings.exclude(index_state="deleting").values_list("track_id", "vector")
    assert {track_id: bytes(vector) for track_id, vector in living} == {new_id(i): each for i, each in vectors.items()}
    recipe = kept(playlist)
    assert (recipe.like, recipe.unlike) == (new_ids("t001", "t000", BAD), new_ids("t002"))
    assert tracks_of(playlist) == new_ids("t003", BAD, "t050")
    pair, bad = DuplicatePair.objects.get(), BadFile.objects.get()
    assert ([pair.one_id, pair.other_id], pair.rejected) == (sorted(new_ids("t004", "t005")), True)
    assert (bad.track_id, bad.ignored) == (new_id(BAD), True)
    space.refresh_from_db()
    assert measure_of_a_text(space) == pytest.approx(measure)
