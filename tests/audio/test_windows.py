"""Windows over a whole length and over blocks as they arrive."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings.audio.windows import Backlog, WindowStream, window_starts

sizes = st.integers(1, 60)


def test_a_track_of_one_window_has_one():
    assert window_starts(30, 30, 5) == [0]


def test_a_shorter_track_is_one_window_of_its_own_length():
    assert window_starts(7, 30, 5) == [0]


def test_one_more_window_ends_with_the_track():
    assert window_starts(42, 30, 5) == [0, 5, 10, 12]


def test_nothing_cannot_be_cut():
    with pytest.raises(ValueError, match="positive"):
        window_starts(0, 30, 5)


@given(total=st.integers(1, 500), length=sizes, hop=sizes)
def test_windows_lie_within_the_track_and_the_last_ends_it(total: int, length: int, hop: int):
    starts = window_starts(total, length, hop)
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    assert starts[-1] + length == total or (starts == [0] and total < length)
    assert all(start == number * hop for number, start in enumerate(starts[:-1]))


@given(blocks=st.lists(st.integers(0, 90), min_size=1, max_size=12), length=sizes, hop=sizes)
def test_blocks_of_any_size_give_the_windows_of_the_whole(blocks: list[int], length: int, hop: int):
    track = np.arange(sum(blocks), dtype=np.float32)[None]
    stream = WindowStream(channels=1, length=length, hop=hop)
    found = []
    for part in np.split(track, np.cumsum(blocks)[:-1], axis=1):
        found += [(start, window.tolist()) for start, window in stream.push(part)]
    found += [(start, window.tolist()) for start, window in stream.finish()]
    starts = window_starts(track.shape[1], length, hop) if track.size else []
    assert found == [(start, track[:, start : start + length].tolist()) for start in starts]


def test_the_backlog_refuses_other_channels():
    with pytest.raises(ValueError, match="expected"):
        Backlog(2).append(np.zeros((1, 10), np.float32))
