"""A file that somebody waits for must not keep the others who wait."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from embeddings.audio.pool import DecodePool
from embeddings.audio.summary import Limits
from embeddings.embedder.embedder import interactive
from embeddings.errors import AudioError
from tests.audio.conftest import MONO
from tests.audio_files import write_long


def test_it_is_heard_for_an_hour(tmp_path: Path) -> None:
    write_long(tmp_path / "long.flac", 1.02, 1_000)
    with closing(DecodePool(1, limits=interactive(Limits()))) as pool, pytest.raises(AudioError, match="than 1 h"):
        list(pool.decode(str(tmp_path / "long.flac"), [MONO]))


def test_it_is_heard_for_less_where_that_is_the_limit() -> None:
    assert interactive(Limits(max_hours=0.5)) == Limits(max_hours=0.5)
