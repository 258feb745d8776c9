"""Twins of the published checkpoints: their format to the letter, numbers of our own, in small or in full size.

Configs with the published flags, names as the authors' classes give them, old weight norm, dtypes, and what a pickle
asks for. Every number follows from its tensor's name, whatever the versions of NumPy and torch.
"""

from __future__ import annotations

import json
import pickle
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.encoders import published

REPOSITORIES = {
    "muq": ("OpenMuQ/MuQ-MuLan-large", "OpenMuQ/MuQ-large-msd-iter", "FacebookAI/xlm-roberta-base"),
    "mert": ("m-a-p/MERT-v1-330M",),
    "latent": ("SonyCSLParis/music2latent",),
}
"""By model: the hub repository of its weights, then those of its parts."""
WORDS = ("calm", "piano", "loud", "techno", "slow", "sad", "voice", "and", "the", "with", "guitar", "drums", "night")
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
SMALL_VOCABULARY = 300


def make_twin(key: str, folder: Path, size: str = "small", *, weights: bool = True) -> Path:
    """Write the repositories of one model to ``folder``, each under its hub id; return that of the weights.

    ``size`` is ``small`` (a few megabytes; as many tensors, narrower) or ``published``.
    """
    writers = {"muq": _write_muq, "mert": _write_mert, "latent": _write_latent}
    folders = [folder / name for name in REPOSITORIES[key]]
    for repository in folders:
        repository.mkdir(parents=True, exist_ok=True)
    writers[key](configs(size), *folders)
    if weights:
        write_weights(key, folders[0], size)
    return folders[0]


def make_offline_twin(key: str, folder: Path, size: str = "small", *, weights: bool = True) -> Path:
    """Write a twin as the one folder that a machine without a network gets: the parts lie inside."""
    whole = make_twin(key, folder, size, weights=weights)
    for name in REPOSITORIES[key][1:]:
        (folder / name).rename(whole / name.rpartition("/")[2])
    return whole


def write_weights(key: str, folder: Path, size: str = "small") -> None:
    """Write the file of weights as the authors did."""
    import torch

    values = {name: _value(name, tensor) for name, tensor in state(key, size).items()}
    if key == "latent":
        content = {"gen_state_dict": values, "fid": np.float64(1.2), "it": 800_000, "epoch": 13}
        torch.save(content, folder / "music2latent.pt", pickle_module=_NUMPY_1)
    else:
        torch.save(values, folder / "pytorch_model.bin")


def state(key: str, size: str = "small") -> dict[str, Any]:
    """Return what a file of weights holds: tensors without memory, but for those that a config decides."""
    import torch

    from embeddings.weights.tensors import without_weights

    network = {"muq": _mulan, "mert": _mert, "latent": _latent}[key]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), without_weights():
        warnings.simplefilter("ignore", FutureWarning)  # the old weight norm
        named = network(size).state_dict()
    old_names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, old in old_names.items():
        named = {name.replace(new, old): tensor for name, tensor in named.items()}
    return dict(named)


def configs(size: str) -> SimpleNamespace:
    """Return the published configs, for ``small`` with all widths small; flags, kernels, layers stay."""
    if size == "published":
        return SimpleNamespace(
            mulan=published.MULAN, muq=published.MUQ, xlm_roberta=published.XLM_ROBERTA, mert=published.MERT, latent={}
        )
    width = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    return SimpleNamespace(
        mulan=published.MULAN
        | {
            "audio_model": published.MULAN["audio_model"] | {"model_dim": 32},
            "audio_transformer": published.MULAN["audio_transformer"] | {"dim": 48},
            "text_transformer": published.MULAN["text_transformer"] | {"dim": 32, "heads": 2, "dim_head": 16},
        },
        muq=published.MUQ
        | {"conv_dim": 8, "encoder_dim": 32, "codebook_size": 64, "w2v2_config": published.CONFORMER | width},
        xlm_roberta=published.XLM_ROBERTA | width | {"vocab_size": SMALL_VOCABULARY},
        mert=published.MERT | width | {"conv_dim": [16] * 7},
        latent={"base_channels": 4, "bottleneck_base_channels": 32, "cond_channels": 16},
    )


def _mulan(size: str) -> Any:
    """Build the authors' whole network: what only training uses, too."""
    import torch
    from muq import MuQ
    from muq.muq_mulan.models.audio import AudioSpectrogramTransformerPretrained
    from muq.muq_mulan.models.mulan import MuLanModel
    from muq.muq_mulan.models.text import TextTransformerPretrained
    from transformers import XLMRobertaConfig, XLMRobertaModel

    config = configs(size)

    class Audio(AudioSpectrogramTransformerPretrained):
        def _init_pretrained_model(self, _name: str) -> None:
            self.model = MuQ(config.muq)

    class Text(TextTransformerPretrained):
        def _init_pretrained_model(self) -> Any:
            return XLMRobertaModel(XLMRobertaConfig(**config.xlm_roberta))

    mulan = config.mulan
    audio = Audio("muq", model_dim=mulan["audio_model"]["model_dim"], **mulan["audio_transformer"])
    text = Text("xlm-roberta", model_dim=mulan["text_model"]["model_dim"], **mulan["text_transformer"])
    return torch.nn.ModuleDict({"mulan": MuLanModel(audio, text, **mulan["mulan"])})


def _mert(size: str) -> Any:
    from transformers import HubertConfig, HubertModel

    return HubertModel(HubertConfig(**{k: v for k, v in configs(size).mert.items() if k != "model_type"}))


def _latent(size: str) -> Any:
    from embeddings.encoders.latent import build_network

    return build_network(configs(size).latent, "UNet")


def noise(name: str, count: int) -> NDArray[np.float32]:
    """Return numbers between -1 and 1 that follow from ``name``, by a part of NumPy that never changes."""
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw((count + 1) // 2).astype("<u8").view("<u4")[:count]
    return raw.astype(np.float32) * np.float32(2**-31) - np.float32(1)


def _value(name: str, tensor: Any) -> Any:
    """Return a tensor of noise that keeps signals at their size; what a config decides stays."""
    import torch

    if name.endswith(("inv_freq", "num_batches_tracked")):
        return tensor
    values, shape = noise(name, tensor.numel()), tuple(tensor.shape)
    if name.endswith(("bias", "running_mean")):
        values *= np.float32(0.1)
    elif tensor.numel() == max(shape):  # norms, gains and lengths
        values = 1 + np.float32(0.1) * values
    else:
        values *= np.float32((6 / np.prod(shape[1:])) ** 0.5)
    return torch.from_numpy(values.reshape(shape))


def _write_muq(config: SimpleNamespace, whole: Path, muq: Path, xlm_roberta: Path) -> None:
    _write_json(whole / "config.json", config.mulan)
    _write_json(muq / "config.json", config.muq)
    _write_json(xlm_roberta / "config.json", config.xlm_roberta)
    _write_json(xlm_roberta / "tokenizer_config.json", {"model_max_length": 512})
    _write_json(xlm_roberta / "tokenizer.json", _tokenizer(config.xlm_roberta["vocab_size"]))


def _write_mert(config: SimpleNamespace, folder: Path) -> None:
    _write_json(folder / "config.json", config.mert)
    _write_json(folder / "preprocessor_config.json", published.MERT_PREPROCESSOR)
    for name in ("configuration_MERT.py", "modeling_MERT.py"):
        (folder / name).write_text('raise RuntimeError("code that comes with weights is never run")\n')
    (folder / "MERT-v1-330M.pt").write_bytes(b"stands for 4 GB that nobody needs")


def _write_latent(config: SimpleNamespace, folder: Path) -> None:
    if config.latent:  # its config.json is ours: the published weights have none and use the package's numbers
        _write_json(folder / "config.json", config.latent)


class _NumPy1Pickler(pickle._Pickler):
    """Writes NumPy's numbers under the names that they had when the checkpoint was written."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if obj is np._core.multiarray.scalar:
            self.write(pickle.GLOBAL + b"numpy.core.multiarray\nscalar\n")
            self.memoize(obj)
        else:
            super().save_global(obj, name)


_NUMPY_1 = SimpleNamespace(__name__="pickle", Pickler=_NumPy1Pickler)


def _tokenizer(vocabulary: int) -> dict[str, Any]:
    """Return a tokenizer.json in the form of XLM-RoBERTa's: pieces of words with scores."""
    pieces = list(dict.fromkeys([*(f"▁{word}" for word in WORDS), "▁", *map(chr, range(33, 127)), *"äöüß静かな夜に"]))
    pieces += [f"▁piece{number}" for number in range(vocabulary - len(pieces) - len(SPECIAL_TOKENS) - 1)]
    tokens = [*SPECIAL_TOKENS, *pieces, "<mask>"]
    special = {"single_word": False, "rstrip": False, "normalized": False, "special": True}
    ends = {token: {"id": token, "ids": [tokens.index(token)], "tokens": [token]} for token in ("<s>", "</s>")}
    start, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ends)
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    metaspace = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": tokens.index(token), "content": token, "lstrip": token == "<mask>", **special}
            for token in (*SPECIAL_TOKENS, "<mask>")
        ],
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, first, end],
            "pair": [start, first, end, end, second, end],
            "special_tokens": ends,
        },
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": 3,
            "vocab": [[token, 0.0 if token in SPECIAL_TOKENS else -float(len(token))] for token in tokens],
        },
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
