"""What a vector's owner should know of a file that was decoded, but not as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embeddings.encoders.base import AudioFormat
from tests.audio.conftest import MONO, STEREO, decode_whole
from tests.audio_files import DAMAGED, tone


def note(path: Path, formats: list[AudioFormat]) -> str:
    return decode_whole(path, formats)[1].note


@pytest.mark.parametrize("name", ["latin-1 tags", "ten hours mp3", "without end wav"])
def test_nothing_is_said_of_a_file_that_is_all_there(name: str, tmp_path: Path) -> None:
    assert note(DAMAGED[name].make(tmp_path), [MONO, STEREO]) == ""


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    assert note(DAMAGED["lost tenth flac"].make(tmp_path), [MONO]) == "1.3 of 12 s could not be decoded"


def test_channels_that_cancel_out_are_said(write_wav: Callable[..., Path]) -> None:
    piece = tone(4, channels=1)
    path = write_wav(np.concatenate([piece, -piece]), 44_100, "FLOAT")
    assert note(path, [MONO, STEREO]) == "its channels cancel out for 4 of 4 s and were heard as if they did not"


def test_a_scale_far_beyond_the_full_one_is_said(write_wav: Callable[..., Path]) -> None:
    path = write_wav(tone(3) * np.float32(30_000), 44_100, "FLOAT")
    assert note(path, [MONO]) == "its samples go far beyond full scale and were divided by 32,768"
