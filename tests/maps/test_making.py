"""Pictures of spaces: what sounds alike lies together, and they follow the library."""

from __future__ import annotations

import numpy as np
import pytest
from django.core.management import call_command
from django_q.models import OrmQ

from batches import tasks
from embeddings.encoders.registry import encoder_class
from embeddings.management.commands import make_maps
from embeddings.maps import layout
from embeddings.maps.groups import group_of
from embeddings.maps.making import make_due_maps, make_map, maps_due, sketch
from embeddings.models import Embedding, EmbeddingSpace, SpaceMap
from embeddings.spaces.vectors import to_bytes
from tests.batches.rows import make_embedding, make_space, make_track

pytestmark = [pytest.mark.django_db, pytest.mark.database]

KINDS = 3


def kind_of(number: int) -> int:
    return number % KINDS


def library(count: int, model: str = "muq") -> EmbeddingSpace:
    """A live space of tracks of ``KINDS`` kinds, which differ far more than what is of one kind."""
    space = make_space(model)
    random = np.random.default_rng(0)
    for number in range(Embedding.objects.count(), count):
        vector = np.eye(space.dimension, dtype=np.float32)[kind_of(number)]
        vector = vector + random.normal(0, 0.05, space.dimension).astype(np.float32)
        data = to_bytes(vector / np.linalg.norm(vector), encoder_class(model).stored_dtype)
        make_embedding(space, make_track(f"t{number:03}"), vector=data)
    return space


def places(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<f4").reshape(-1, 2)


def together(points: np.ndarray) -> float:
    """The share of points whose nearest other one is of the same kind."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(len(points))
    return float(np.mean(distances.argmin(axis=1) % KINDS == np.arange(len(points)) % KINDS))


@pytest.mark.parametrize("way", ["pca", "umap"])
def test_what_sounds_alike_lies_together(way: str) -> None:
    points = places(getattr(make_map(library(60)), way))
    assert points.shape == (60, 2)
    assert np.isfinite(points).all()
    assert together(points) > 0.95


def test_groups_are_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "FEWEST_IN_CLUSTER", 20)
    groups = np.frombuffer(make_map(library(60)).clusters, np.uint8)
    assert [len({int(each) for each in groups[kind::KINDS]}) for kind in range(KINDS)] == [1, 1, 1]


def test_the_group_of_a_track_is_of_its_kind() -> None:
    space = library(60)
    make_map(space)
    assert {kind_of(int(each[1:])) for each in group_of(space, "t004") or []} == {1}
    assert group_of(space, "unknown") is None


def test_few_tracks_have_a_picture_too() -> None:
    made = make_map(library(1))
    assert (made.tracks, places(made.pca).tolist(), made.umap) == (1, [[0.0, 0.0]], b"")


def test_a_map_is_the_same_each_time() -> None:
    space = library(40)
    assert make_map(space).umap == make_map(space).umap


def test_large_libraries_are_shown_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embeddings.maps.making.MOST_TRACKS", 20)
    assert make_map(library(50)).tracks == 20


def test_a_sketch_reads_a_bounded_part_and_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embeddings.maps.making.SKETCH_BYTES", 30 * 8 * 4)
    assert sketch(library(50)).tracks == 30
    assert not SpaceMap.objects.exists()


def test_damaged_vectors_are_left_out() -> None:
    space = library(5)
    Embedding.objects.filter(track="t002").update(vector=b"\0" * 32)
    assert len(make_map(space).keys) == 4 * 8


def test_a_map_is_made_once_and_again_when_the_library_has_changed() -> None:
    space = library(50)
    assert [made.space for made in make_due_maps()] == [space]
    assert maps_due() == []
    make_embedding(space, make_track("one more"))
    assert maps_due() == []
    make_embedding(space, make_track("another"))
    assert maps_due() == [space]


def test_a_map_goes_with_its_space() -> None:
    make_map(library(3))
    EmbeddingSpace.objects.get().delete()
    assert not SpaceMap.objects.exists()


def test_the_command_makes_what_is_due(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_maps, "die_with_parent", lambda: None)  # pytest shall not
    monkeypatch.setattr(make_maps.os, "nice", lambda _: 0)
    library(3)
    call_command("make_maps", "--due")
    assert "The map of muq shows 3 tracks." in capsys.readouterr().out


def test_the_end_of_a_job_wants_them() -> None:
    tasks.want_upkeep()
    assert "batches.tasks.make_maps" in [message.func() for message in OrmQ.objects.all()]
