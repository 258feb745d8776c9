"""Cutting tracks for the three models while they are decoded."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from embeddings.encoders.base import AudioFormat, Item, Segmenter, Waveform
from embeddings.encoders.latent import LatentSegmenter
from embeddings.encoders.mert import MertSegmenter
from embeddings.encoders.muq import MuqSegmenter
from tests.encoders.audio import noise

MONO, STEREO = AudioFormat(24_000, 1), AudioFormat(44_100, 2)
KINDS = [(MuqSegmenter, MONO), (MertSegmenter, MONO), (LatentSegmenter, STEREO)]


def cut(segmenter: Segmenter, waveform: Waveform, block: int) -> list[Item]:
    items: list[Item] = []
    for start in range(0, waveform.shape[1], block):
        items += segmenter.push(waveform[:, start : start + block])
    return [*items, *segmenter.finish()]


@pytest.mark.parametrize(("kind", "audio"), KINDS)
@pytest.mark.parametrize("seconds", [1.3, 37.7, 151.01])
def test_odd_blocks_change_no_bit(kind: type[Segmenter], audio: AudioFormat, seconds: float):
    track = noise(audio, seconds)
    whole = cut(kind(), track, track.shape[1])
    for block in (10_007, 2_750_159):
        pieces = cut(kind(), track, block)
        assert [item.index for item in pieces] == [item.index for item in whole] == list(range(len(whole)))
        assert all(np.array_equal(a.samples, b.samples) for a, b in zip(pieces, whole, strict=True))


@pytest.mark.parametrize(("kind", "audio"), KINDS)
def test_items_stay_as_they_are_while_more_comes(kind: type[Segmenter], audio: AudioFormat):
    track, segmenter = noise(audio, 130), kind()
    items = list(segmenter.push(track))
    kept = [item.samples.copy() for item in items]
    list(segmenter.push(noise(audio, 130)))
    assert kept
    assert all(np.array_equal(item.samples, copy) for item, copy in zip(items, kept, strict=True))


@pytest.mark.parametrize(("seconds", "clips"), [(9, 1), (240, 45), (240.37, 57)])
def test_muq_computes_each_clip_once(seconds: float, clips: int):
    assert len(cut(MuqSegmenter(), noise(MONO, seconds), 120 * 24_000)) == clips


def test_muq_computes_silence_and_loops_once():
    loop = noise(MONO, 10)
    track = np.concatenate([np.zeros((1, 60 * 24_000), np.float32), np.tile(loop, 6)], axis=1)
    items = cut(MuqSegmenter(), track, 50 * 24_000)
    assert [item.index for item in items] == [0, 1]
    np.testing.assert_array_equal(items[1].samples, loop[0])


@pytest.mark.parametrize(("kind", "audio"), KINDS)
def test_whole_items_are_views_of_what_was_decoded(kind: type[Segmenter], audio: AudioFormat):
    track = noise(audio, 125).copy()
    assert all(item.samples.base is track for item in kind().push(track))


def test_doubled_mono_is_encoded_once_and_stereo_twice():
    mono = noise(AudioFormat(44_100, 1), 25)
    assert {item.samples.shape[0] for item in cut(LatentSegmenter(), np.repeat(mono, 2, axis=0), 300_000)} == {1}
    assert {item.samples.shape[0] for item in cut(LatentSegmenter(), noise(STEREO, 25), 300_000)} == {2}


def test_a_short_clip_is_completed_from_the_windows_start_repeatedly():
    track = noise(MONO, 3)
    (item,) = cut(MuqSegmenter(), track, 24_000)
    np.testing.assert_array_equal(item.samples, np.tile(track[0], 4)[:240_000])


def test_mert_windows_of_a_long_track():
    items = cut(MertSegmenter(), noise(MONO, 240), 60 * 24_000)
    assert {item.samples.shape for item in items} == {(720_000,)}
    assert len(items) == 43


@pytest.mark.parametrize(("kind", "audio"), KINDS)
def test_audio_of_milliseconds_still_gives_an_item(kind: type[Segmenter], audio: AudioFormat):
    assert len(cut(kind(), noise(audio, 0.01), 1_000)) == 1


@pytest.mark.parametrize(("kind", "audio", "megabytes"), [(MuqSegmenter, MONO, 110), (LatentSegmenter, STEREO, 110)])
def test_memory_does_not_grow_with_the_track(kind: type[Segmenter], audio: AudioFormat, megabytes: int):
    block, segmenter = np.ones((audio.channels, 120 * audio.sample_rate), np.float32), kind()
    tracemalloc.start()
    for _ in range(30):  # an hour
        for _item in segmenter.push(block):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < megabytes * 2**20
