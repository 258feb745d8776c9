"""Groups, calibration, merging and the rest, each by itself."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus.client.types import LoadState

from embeddings.encoders.registry import encoder_class
from embeddings.errors import OutOfTime
from embeddings.index.store import VectorStore
from embeddings.index.sync import index_pending
from embeddings.models import Embedding, EmbeddingSpace
from embeddings.search import comparing
from embeddings.search.calibration import SMALLEST_DEVIATION, calibrate, space_calibration
from embeddings.search.comparing import Probe, cosines, gram, probe, turn
from embeddings.search.deadline import Deadline
from embeddings.search.diversity import most_of_an_artist
from embeddings.search.seeds import grouped
from embeddings.search.warm_up import warm_up
from embeddings.spaces.vectors import DTYPES
from tests.index.conftest import unit
from tests.milvus import LiteServer
from tests.spaces.conftest import embed, make_space


def test_seeds_that_are_alike_share_a_group() -> None:
    centres = np.eye(4, 16)
    near = [centres[n % 4] + 0.1 * each for n, each in enumerate(unit(20, 16))]
    groups = grouped([found for each in near if (found := probe(each))])
    assert sorted(sorted(group.members) for group in groups) == [[n, *range(n + 4, 20, 4)] for n in range(4)]
    assert all(group.shares.sum() == pytest.approx(1) for group in groups)


def test_up_to_four_seeds_are_groups_of_their_own() -> None:
    assert len(grouped([found for each in unit(4, 16) if (found := probe(each))])) == 4


@pytest.mark.django_db
def test_a_comparison_waits_for_a_free_core_and_not_longer_than_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embeddings.search.comparing._turns", threading.Semaphore(1))
    space = make_space()
    embed(space, unit(3, 16), ["a", "b", "c"])
    probes = [found for each in unit(2, 16) if (found := probe(each))]
    with turn(Deadline(9)), pytest.raises(OutOfTime):
        cosines(space, probes, ["a", "b"], Deadline(0.05))
    assert cosines(space, probes, ["b", "a"], Deadline(9))[0] == ["a", "b"]


@pytest.mark.database
@pytest.mark.django_db
@pytest.mark.parametrize("model", ["muq", "mert"])
def test_cosines_are_those_of_whole_vectors_however_little_is_read_at_a_time(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = make_space(model=model, vectors=12)
    dtype = DTYPES[encoder_class(model).stored_dtype]
    for name, numbers in {"READ_BYTES": 32, "BLOCK_BYTES": 80}.items():  # two embeddings; five
        monkeypatch.setattr(comparing, name, numbers * dtype.itemsize)
    monkeypatch.setattr(comparing, "CACHED_BYTES", 3 * 5 * 8)  # three columns
    for track, damaged in {"t3": np.zeros(16), "t5": np.full(16, np.inf), "t7": np.ones(9)}.items():
        Embedding.objects.filter(track=track).update(vector=damaged.astype(dtype).tobytes())
    expected_ids = sorted({f"t{number}" for number in range(12)} - {"t3", "t5", "t7"})
    stored = {each.track_id: np.frombuffer(each.vector, dtype).astype(float) for each in space.embeddings.all()}
    rows = np.array([stored[each] / np.linalg.norm(stored[each]) for each in expected_ids])
    means = rows[:, :5] / np.linalg.norm(rows[:, :5], axis=1, keepdims=True)
    sound, words = unit(1, 16, seed=4)[0].astype(float), unit(1, 5, seed=5)[0].astype(float)
    probes = [Probe(sound / np.linalg.norm(sound)), Probe(np.append(words, np.zeros(11)), is_text=True)]
    ids, found = cosines(space, probes, stored, Deadline(9))
    assert ids == expected_ids
    assert found == pytest.approx(np.stack([rows @ probes[0].vector, means @ words], axis=1), abs=1e-12)
    ids, among = gram(space, stored, Deadline(9))
    assert ids == expected_ids
    assert among == pytest.approx(rows @ rows.T, abs=1e-12)


def test_a_comparison_without_a_deadline_waits_for_a_free_core(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = threading.Semaphore(0)
    monkeypatch.setattr("embeddings.search.comparing._turns", busy)
    threading.Timer(0.1, busy.release).start()
    with turn(Deadline(math.inf)):
        pass


@pytest.mark.parametrize(("diversity", "most"), [(0.0, 25), (0.3, 10), (0.6, 4), (1.0, 1)])
def test_cap_of_an_artist_grows_stricter(diversity: float, most: int) -> None:
    assert most_of_an_artist(25, diversity) == most


@pytest.mark.django_db
def test_calibration_is_that_of_all_pairs_and_always_the_same() -> None:
    space = make_space(vectors=200)
    vectors = unit(200, 16)
    pairs = (vectors @ vectors.T)[~np.eye(200, dtype=bool)]
    kept = calibrate(space)
    assert kept["mean"] == pytest.approx(pairs.mean(), abs=0.01)
    assert kept["deviation"] == pytest.approx(pairs.std(), rel=0.03)
    assert calibrate(space) == kept == EmbeddingSpace.objects.get(pk=space.pk).calibration


@pytest.mark.django_db
@pytest.mark.parametrize("vectors", [0, 1])
def test_calibration_of_next_to_nothing_is_neutral(vectors: int) -> None:
    assert space_calibration(make_space(vectors=vectors), Deadline(9)) == (0, 1)


@pytest.mark.django_db
def test_calibration_of_copies_can_be_divided_by() -> None:
    space = make_space()
    embed(space, np.repeat(unit(1, 16), 5, axis=0))
    assert space_calibration(space, Deadline(9)) == (pytest.approx(1), SMALLEST_DEVIATION)


@pytest.mark.database
@pytest.mark.django_db
def test_calibration_is_renewed_when_the_space_has_grown() -> None:
    space = make_space(vectors=10)
    small = space_calibration(space, Deadline(9))
    embed(space, unit(5, 16, seed=3), [f"n{n}" for n in range(5)])
    assert space_calibration(space, Deadline(9)) == small
    embed(space, unit(50, 16, seed=3), [f"m{n}" for n in range(50)])
    assert space_calibration(space, Deadline(9)) != small


@pytest.mark.django_db
def test_warm_up_lets_milvus_load_what_search_uses(milvus: LiteServer) -> None:
    live, build = make_space(vectors=3), make_space("new", "building", vectors=3)
    for space in (live, build):
        index_pending(space)
        VectorStore()._write("release_collection", space.collection)
    warm_up()
    states = [VectorStore()._read("get_load_state", space.collection)["state"] for space in (live, build)]
    assert states == [LoadState.Loaded, LoadState.NotLoad]


@pytest.mark.django_db
def test_warm_up_without_milvus_is_no_error(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.MILVUS_LITE_SOCKET = tmp_path / "none.sock"
    monkeypatch.setattr("embeddings.search.warm_up.PAUSES", ())
    make_space(vectors=1)
    warm_up()
