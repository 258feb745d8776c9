"""Batches from views of one waveform: no more is copied than there is."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from embeddings.encoders import gathering
from embeddings.encoders.gathering import Gatherer
from embeddings.encoders.mert import MertSegmenter
from tests.encoders.audio import noise
from tests.encoders.test_segmenters import MONO


def test_a_batch_is_what_its_items_are() -> None:
    track = noise(MONO, 3)
    items = [track[0, start : start + 1_000] for start in (0, 500, 70_000)] + [noise(MONO, 1)[0, :1_000]]
    np.testing.assert_array_equal(Gatherer("cpu").batch(items).numpy(), np.stack(items))
    stacked = np.stack(items)
    np.testing.assert_array_equal(Gatherer("cpu").batch(stacked).numpy(), stacked)
    np.testing.assert_array_equal(Gatherer("cpu").batch([stacked[:, ::2]]).numpy()[0], stacked[:, ::2])


def test_overlapping_windows_are_sent_once() -> None:
    track, gatherer = noise(MONO, 240).copy(), Gatherer("meta")
    items = [item.samples for item in MertSegmenter().push(track)]
    for item in items:
        gatherer.send(item)
    assert gatherer.bytes_sent == track.nbytes
    for start in range(0, len(items), 8):
        gatherer.batch(items[start : start + 8])
    assert sum(item.nbytes for item in items) > 5 * track.nbytes
    assert gatherer.bytes_sent == track.nbytes


def test_not_too_much_is_sent_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    tracks, gatherer = [noise(MONO, seconds).copy() for seconds in (1, 2)], Gatherer("meta")
    monkeypatch.setattr(gathering, "MAX_BYTES_AHEAD", tracks[0].nbytes)
    for track in tracks:
        gatherer.send(track[0])
    assert gatherer.bytes_sent == tracks[0].nbytes
    gatherer.batch([tracks[1][0]])
    assert gatherer.bytes_sent == sum(track.nbytes for track in tracks)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_waveform_is_freed_when_nobody_has_it_here(device: str) -> None:
    track, gatherer = noise(MONO, 1).copy(), Gatherer(device)
    left = weakref.ref(track)
    gatherer.batch([track[0, :1_000], track[0, 500:1_500]])
    del track
    assert left() is None
    assert not gatherer._there
