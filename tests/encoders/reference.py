"""The three recipes, plainly and slowly in float64: whole waveforms, nothing skipped, nothing shared with embeddings/.

Written from the recipes alone, on the packages' own networks; the fast path is judged by it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]


def reference_embedding(key: str, checkpoint_folder: Path, waveform64: Array) -> Array:
    """Embed a waveform [channels, samples] at the model's rate; returns float64 [dimension] of unit length."""
    recipes: dict[str, Callable[[str, Array], Array]] = {
        "muq": muq_matrix,
        "mert": mert_matrix,
        "latent": latent_matrix,
    }
    with torch.inference_mode():
        return enrich(recipes[key](str(checkpoint_folder), np.asarray(waveform64, np.float64)))


def enrich(matrix: Array) -> Array:
    """Mean, robust spread and mean first difference of [D, T], one after the other, at unit length."""
    mean = matrix.mean(axis=1)
    spread = (np.percentile(matrix, 75, axis=1) - np.percentile(matrix, 25, axis=1)) / 1.3489795
    drift = np.diff(matrix, axis=1).mean(axis=1) if matrix.shape[1] > 1 else np.zeros(len(matrix))
    vector = np.concatenate([mean, spread, drift])
    return vector / np.sqrt(np.sum(vector**2))


def windows(audio: Array, length: int, hop: int) -> list[Array]:
    """All windows of a mono track [samples]."""
    if len(audio) < length:
        return [audio]
    start, found = 0, []
    while start + length <= len(audio):
        found.append(audio[start : start + length])
        start += hop
    if start - hop + length < len(audio):
        found.append(audio[len(audio) - length :])
    return found


# MuQ: clips of 10 s in windows of 120 s every 15 s


def muq_matrix(folder: str, waveform: Array) -> Array:
    columns = []
    for window in windows(waveform[0], 120 * 24_000, 15 * 24_000):
        vectors = []
        for start in range(0, len(window), 240_000):
            clip = window[start : start + 240_000]
            while len(clip) < 240_000:
                clip = np.concatenate([clip, window[: 240_000 - len(clip)]])
            vectors.append(muq_clip(folder, clip))
        columns.append(np.mean(vectors, axis=0))
    return np.stack(columns, axis=1)


def muq_clip(folder: str, clip: Array) -> Array:
    """The package's audio tower in double precision, and its spectrogram, which it would compute in single."""
    from torchaudio.transforms import MelSpectrogram

    mulan = muq_package(folder).mulan
    muq = mulan.audio.model.model
    mel = MelSpectrogram(24_000, n_fft=2_048, hop_length=240, n_mels=128).double()(torch.from_numpy(clip)[None])
    decibels = 10 * torch.log10(torch.clamp(mel, min=1e-10))[..., :-1]
    features = (decibels - muq.stat["melspec_2048_mean"]) / muq.stat["melspec_2048_std"]
    _, states, _ = muq.encoder(features)
    heard = mulan.audio.transformer(mulan.audio.proj(states[-1]))[0].mean(dim=0)
    latent = mulan.audio_to_latents(heard)
    return (latent / latent.norm()).numpy()


@cache
def muq_package(folder: str, double: bool = True) -> Any:
    """muq.MuQMuLan as the package loads it; names of sub-models are relative to the working folder."""
    from muq import MuQMuLan

    with contextlib.chdir(folder):
        model = MuQMuLan.from_pretrained(folder).eval()
    return model.double() if double else model


# MERT: 25 states, averaged over windows of 30 s every 5 s


def mert_matrix(folder: str, waveform: Array) -> Array:
    normalize = json.loads((Path(folder) / "preprocessor_config.json").read_text())["do_normalize"]
    columns = []
    for window in windows(waveform[0], 30 * 24_000, 5 * 24_000):
        heard = (window - window.mean()) / np.sqrt(window.var() + 1e-7) if normalize else window
        states = mert_package(folder)(torch.from_numpy(heard)[None], output_hidden_states=True).hidden_states
        columns.append(np.concatenate([state[0].mean(dim=0).numpy() for state in states]))
    return np.stack(columns, axis=1)


@cache
def mert_package(folder: str, double: bool = True) -> Any:
    from transformers import HubertConfig, HubertModel

    config = json.loads((Path(folder) / "config.json").read_text()) | {"model_type": "hubert"}
    model = HubertModel.from_pretrained(folder, config=HubertConfig.from_dict(config)).eval()
    return model.double() if double else model


# Latent: chunks of 856 spectrogram frames


def latent_matrix(folder: str, waveform: Array) -> Array:
    frames = (waveform.shape[1] - 3 * 512) // 512 // 8 * 8
    length = min(frames, 856)
    latents = []
    for start in range(0, frames, length):
        chunk = np.arange(start, start + length) % frames
        spectrogram = torch.from_numpy(np.stack([latent_spectrogram(channel, chunk) for channel in waveform]))
        latents.append(latent_package(folder).encoder(spectrogram).numpy())
    x = np.concatenate(latents, axis=2)[:, :, : frames // 8] / 0.06
    rows = [x[channel, latent] for latent in range(64) for channel in range(2)]
    rows += [np.sqrt(x[0, latent] ** 2 + x[1, latent] ** 2 + 1e-12) for latent in range(64)]
    return np.stack(rows)


def latent_spectrogram(channel: Array, frames: NDArray[np.intp]) -> Array:
    """Real and imaginary part [2, 1024, frames], amplitudes compressed to 0.34 |X|^0.65."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2_048) / 2_048)
    spectrum = np.stack([np.fft.rfft(channel[f * 512 : f * 512 + 2_048] * hann)[:1_024] for f in frames], axis=1)
    compressed = 0.34 * np.abs(spectrum) ** 0.65 * np.exp(1j * np.angle(spectrum))
    return np.stack([compressed.real, compressed.imag])


@cache
def latent_package(folder: str, double: bool = True) -> Any:
    """music2latent's whole UNet with the checkpoint's sizes and weights."""
    from music2latent import models

    config = json.loads((Path(folder) / "config.json").read_text())
    own = {name: getattr(models, name) for name in config}
    vars(models).update(config)
    network = models.UNet()
    vars(models).update(own)
    state = torch.load(Path(folder) / "music2latent.pt", weights_only=True)["gen_state_dict"]
    network.load_state_dict(state)
    network.eval().requires_grad_(False)
    return network.double() if double else network
