"""Computes the golden vectors: the twins, read and run by the authors' own code. Nothing of it runs in the tests.

How it is run again, in an environment of its own, from the root of the repository:

    pip install transformers==4.40.2 "huggingface_hub<1" torch==2.11.0 torchaudio==2.11.0 muq==0.1.0 music2latent==0.1.8
    python -m tests.encoders.golden.make FOLDER

FOLDER holds MERT's own ``modeling_MERT.py`` and ``configuration_MERT.py``, as the repository m-a-p/MERT-v1-330M has
them beside its weights; they are no part of this project.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.encoders import twins

VECTORS = Path(__file__).with_name("vectors.npz")
NAMES = Path(__file__).with_name("names.json")
PROMPTS = ("calm piano and voice", "Zünftige loud techno für the 夜!")
SECONDS = {"muq": 10, "mert": 5, "latent": 1}
RATES = {"muq": 24_000, "mert": 24_000, "latent": 44_100}


def audio(key: str, channels: int = 1) -> NDArray[np.float32]:
    """Return tones that rise and a little noise, float32 [channels, samples]."""
    count = SECONDS[key] * RATES[key]
    time = np.arange(count) / RATES[key]
    tones = [np.sin(2 * np.pi * (110 + 60 * time + 40 * channel) * time) for channel in range(channels)]
    hiss = [twins.noise(f"{key} {channel}", count) for channel in range(channels)]
    return np.asarray(0.2 * np.array(tones) + 0.02 * np.array(hiss), np.float32)


def digest(state: dict[str, Any]) -> str:
    """Return the SHA-256 of names, shapes and dtypes, in order of name and under the old weight norm's names."""
    lines = []
    for name, tensor in state.items():
        old = name.replace("parametrizations.weight.original0", "weight_g")
        old = old.replace("parametrizations.weight.original1", "weight_v")
        lines.append(f"{old} {list(tensor.shape)} {tensor.dtype}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


Vectors = dict[str, NDArray[np.float32]]


def muq(folder: Path) -> tuple[Vectors, str]:
    """MuQMuLan of the muq package; it wants weights of its parts, too, which the whole's overwrite."""
    from muq import MuQ, MuQMuLan
    from transformers import XLMRobertaConfig, XLMRobertaModel

    config = json.loads((folder / "config.json").read_text())
    parts = {"audio_model": folder / "MuQ-large-msd-iter", "text_model": folder / "xlm-roberta-base"}
    MuQ(json.loads((parts["audio_model"] / "config.json").read_text())).save_pretrained(parts["audio_model"])
    XLMRobertaModel(XLMRobertaConfig.from_pretrained(parts["text_model"])).save_pretrained(parts["text_model"])
    for part, place in parts.items():
        config[part]["name"] = str(place)
    model = MuQMuLan._load_as_pickle(MuQMuLan(config), folder / "pytorch_model.bin", "cpu", strict=True).eval()
    heard = model(wavs=torch.from_numpy(audio("muq")))[0].numpy()
    read = np.stack([model(texts=[prompt])[0].numpy() for prompt in PROMPTS])
    return {"muq": heard, "muq-text": read}, digest(model.state_dict())


def mert(folder: Path, code: Path) -> tuple[Vectors, str]:
    """MERTModel of the code beside the weights, heard through its own feature extractor."""
    from transformers import AutoModel, Wav2Vec2FeatureExtractor

    for path in code.glob("*_MERT.py"):
        shutil.copy(path, folder)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    inputs = extractor(audio("mert")[0], sampling_rate=RATES["mert"], return_tensors="pt")
    states = model(**inputs, output_hidden_states=True).hidden_states
    return {"mert": torch.stack([state[0].mean(0) for state in states]).numpy()}, digest(model.state_dict())


def latent(folder: Path) -> tuple[Vectors, str]:
    """EncoderDecoder of the music2latent package, with the twin's sizes; it would download weights of its own."""
    from music2latent import inference, models

    vars(models).update(json.loads((folder / "config.json").read_text()))
    inference.download_model = lambda: None
    model = inference.EncoderDecoder(folder / "music2latent.pt", device=torch.device("cpu"))
    return {"latent": model.encode(audio("latent", 2)).numpy()}, digest(model.gen.state_dict())


def main() -> None:
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        folders = {key: twins.make_offline_twin(key, Path(name, key)) for key in SECONDS}
        found = {
            "muq": muq(folders["muq"]),
            "mert": mert(folders["mert"], Path(sys.argv[1])),
            "latent": latent(folders["latent"]),
        }
    np.savez(VECTORS, **{name: vector for vectors, _ in found.values() for name, vector in vectors.items()})
    NAMES.write_text(json.dumps({key: names for key, (_, names) in found.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
