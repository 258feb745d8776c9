"""Synthetic music: real enough for models to tell genres apart, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.encoders.base import Waveform
from navembed_site.demo.music import GENRES, render


@pytest.mark.parametrize("genre", GENRES)
def test_every_genre_is_stereo_music_without_clipping_or_silence(genre: str) -> None:
    piece = render(genre, seconds=8, seed=3)
    assert (piece.shape, piece.dtype) == ((2, 8 * 44_100), np.float32)
    assert np.abs(piece).max() == pytest.approx(0.8, abs=1e-5)
    loudness = np.sqrt((piece[:, 44_100:-44_100].reshape(2, 6, -1) ** 2).mean(axis=2))
    assert loudness.min() > 0.005


def test_a_seed_gives_the_same_piece_again_and_another_seed_another() -> None:
    first, again, other = (render("jazz", seconds=4, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert abs(np.corrcoef(first[0], other[0])[0, 1]) < 0.5


def test_pieces_of_a_genre_sound_more_alike_than_pieces_of_others() -> None:
    timbres = np.array([timbre(render(genre, seconds=8, seed=seed)) for genre in GENRES for seed in (1, 2, 3)])
    timbres = (timbres - timbres.mean(axis=0)) / timbres.std(axis=0)
    distances = ((timbres[:, None] - timbres[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    genre_of = np.arange(len(timbres)) // 3
    assert (genre_of[distances.argmin(axis=1)] == genre_of).mean() > 0.9


@pytest.mark.parametrize("genre", GENRES)
def test_even_a_moment_of_music_can_be_made(genre: str) -> None:
    assert render(genre, seconds=0.05, seed=0).shape == (2, 2205)


@pytest.mark.parametrize(("genre", "seconds"), [("polka", 10), ("jazz", 0)])
def test_what_cannot_be_made_is_named(genre: str, seconds: float) -> None:
    with pytest.raises(ValueError, match=r"'polka'.*ambient|seconds is 0"):
        render(genre, seconds=seconds, seed=0)


def timbre(piece: Waveform) -> NDArray[np.float64]:
    """Mean, spread and movement of the logarithmic energy in bands: [3 × bands]."""
    frames = piece.mean(axis=0)[: piece.shape[1] // 2048 * 2048].reshape(-1, 2048) * np.hanning(2048)
    edges = np.unique(np.geomspace(1, 1024, 25).astype(int))
    energy = np.log(np.add.reduceat(np.abs(np.fft.rfft(frames)) ** 2, edges[:-1], axis=1) + 1e-3)
    return np.concatenate([energy.mean(axis=0), energy.std(axis=0), np.abs(np.diff(energy, axis=0)).mean(axis=0)])
