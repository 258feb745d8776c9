"""The algorithm that was replaced, written anew from its description, to be measured beside ours. Used only here.

Each model decodes the file again; windows, clips and chunks go to the network one by one, in float32, and what
windows share is computed again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.audio.windows import window_starts
from embeddings.encoders.base import Encoder

RATE = 24_000
CLIP = 10 * RATE
STEREO_RATE = 44_100
Matrix = NDArray[np.floating[Any]]


def embed(encoder: Encoder, path: str) -> NDArray[np.float32]:
    """Embed a file with the loaded network of ``encoder``; returns the same vector as ours, float32 [dimension]."""
    import torch

    recipes: dict[str, Callable[[Encoder, str], Matrix]] = {"muq": _muq, "mert": _mert, "latent": _latent}
    precision, encoder.precision = encoder.precision, "float32"
    try:
        with torch.inference_mode():
            return _enriched(recipes[encoder.key](encoder, path))
    finally:
        encoder.precision = precision


def decode(encoder: Encoder, path: str) -> NDArray[np.float32]:
    """Decode a file for one model, as all of them do for themselves."""
    import librosa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what librosa imports
        waveform, _ = librosa.load(path, sr=encoder.audio.sample_rate, mono=encoder.audio.channels == 1)
    return np.atleast_2d(waveform)


def _muq(encoder: Encoder, path: str) -> Matrix:
    columns = []
    for window in _windows(decode(encoder, path)[0], 120 * RATE, 15 * RATE):
        clips = [window[start : start + CLIP] for start in range(0, len(window), CLIP)]
        whole = [np.concatenate([clip, np.resize(window, CLIP - len(clip))]) for clip in clips]
        columns.append(np.mean([encoder.encode(clip[None])[0] for clip in whole], axis=0))
    return np.stack(columns, axis=1)


def _mert(encoder: Encoder, path: str) -> Matrix:
    import torch

    network = encoder._network
    attention, network.config._attn_implementation = network.config._attn_implementation, "eager"
    columns = []
    for window in _windows(decode(encoder, path)[0], 30 * RATE, 5 * RATE):
        heard = (window - window.mean()) / np.sqrt(window.var() + 1e-7)
        wave = torch.from_numpy(heard)[None].to(encoder.device)
        states = network(wave, output_hidden_states=True).hidden_states
        columns.append(torch.stack(states)[:, 0].mean(dim=1).flatten().cpu().numpy())
    network.config._attn_implementation = attention
    return np.stack(columns, axis=1)


def _latent(encoder: Encoder, path: str) -> Matrix:
    import torch
    from music2latent.inference import encode_audio_inference

    waveform, trainer = decode(encoder, path), SimpleNamespace(gen=torch.nn.Module())
    stereo = np.repeat(waveform, 2, axis=0) if len(waveform) == 1 else waveform
    trainer.gen.encoder = encoder._network
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "CUDA is not available", UserWarning)
        latents = encode_audio_inference(stereo, trainer, 10 * STEREO_RATE, 1, device=encoder.device)
    x = latents.float().cpu().numpy()
    sides = x.transpose(1, 0, 2).reshape(-1, x.shape[2])
    return np.concatenate([sides, np.sqrt(x[0] ** 2 + x[1] ** 2 + 1e-12)])


def _windows(audio: NDArray[np.float32], length: int, hop: int) -> Iterator[NDArray[np.float32]]:
    return (audio[start : start + length] for start in window_starts(len(audio), length, hop))


def _enriched(matrix: Matrix) -> NDArray[np.float32]:
    low, high = np.quantile(matrix, [0.25, 0.75], axis=1)
    drift = np.diff(matrix, axis=1).mean(axis=1) if matrix.shape[1] > 1 else np.zeros(len(matrix))
    vector = np.concatenate([matrix.mean(axis=1), (high - low) / 1.3489795, drift])
    unit: NDArray[np.float32] = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit
