"""Checkpoints of three sizes with random weights: how long a network takes does not depend on its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from navembed_site.demo import checkpoints

SIZES = ("tiny", "middle", "full")
"""Those of the tests; some hundredths of the published work, for a CPU; the published architectures."""
LATENT: dict[str, dict[str, Any]] = {
    "middle": {"base_channels": 16, "bottleneck_base_channels": 128, "cond_channels": 64},
    "full": {},
}
"""What differs from the package's own numbers."""


def make_checkpoints(folder: Path, size: str) -> dict[str, Path]:
    """Write a checkpoint of each model below ``folder``; returns their folders by model key. *full* takes 3 GB."""
    if size == "tiny":
        return checkpoints.make_tiny_checkpoints(folder)
    import torch

    middle = size == "middle"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _write_muq(folder / "muq", width=256 if middle else 1_024, depth=6 if middle else 12)
        _write_mert(folder / "mert", width=256 if middle else 1_024, depth=12 if middle else 24)
        _write_latent(folder / "latent", LATENT[size])
    return {key: folder / key for key in checkpoints.MAKERS}


def _write_muq(folder: Path, *, width: int, depth: int) -> None:
    """Write MuQ-MuLan's audio tower; the text half embeds no music."""
    import torch
    from transformers import Wav2Vec2ConformerConfig

    from embeddings.encoders.muq_network import audio_tower

    conformer = Wav2Vec2ConformerConfig(
        hidden_size=width,
        num_hidden_layers=2 * depth,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        position_embeddings_type="rotary",
        layerdrop=0.0,
    )
    w2v2 = {k: v for k, v in conformer.to_dict().items() if k not in {"id2label", "label2id"}}
    sizes = {"conv_dim": width // 2, "encoder_dim": width, "encoder_depth": depth, "w2v2_config": w2v2}
    audio_config = {**checkpoints.MUQ, **sizes}
    transformer = {**checkpoints.TRANSFORMER, "dim": width * 3 // 4, "heads": 8, "dim_head": 64, "tf_depth": 0}
    config = checkpoints.MULAN | {
        "audio_model": {"name": checkpoints.AUDIO_PART, "model_dim": width, "use_layer_idx": -1},
        "audio_transformer": {**transformer, "ff_mult": 4},
    }
    tower = audio_tower(config, audio_config)
    checkpoints.write_part(folder, config, checkpoints.randomised(torch.nn.ModuleDict({"mulan": tower})))
    (folder / checkpoints.AUDIO_PART).mkdir()
    checkpoints.write_json(folder / checkpoints.AUDIO_PART / "config.json", audio_config)


def _write_mert(folder: Path, *, width: int, depth: int) -> None:
    from transformers import HubertConfig, HubertModel

    from embeddings.encoders.mert import ARCHITECTURE

    config = checkpoints.MERT | {
        "hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": width // 64,
        "intermediate_size": 4 * width, "conv_dim": [width // 2] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "conv_stride": [5, 2, 2, 2, 2, 2, 2], "conv_bias": False, "feat_extract_norm": "group",
        "num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 16,
    }  # fmt: skip
    network = HubertModel(HubertConfig(**{name: config[name] for name in ARCHITECTURE}, mask_time_prob=0.0))
    checkpoints.write_part(folder, config, checkpoints.randomised(network))
    checkpoints.write_json(folder / "preprocessor_config.json", checkpoints.MERT_PREPROCESSOR)


def _write_latent(folder: Path, overrides: dict[str, Any]) -> None:
    import torch

    from embeddings.encoders.latent import build_network

    folder.mkdir(parents=True, exist_ok=True)
    if overrides:
        checkpoints.write_json(folder / "config.json", overrides)
    encoder = torch.nn.ModuleDict({"encoder": checkpoints.randomised(build_network(overrides))})
    torch.save({"gen_state_dict": encoder.state_dict()}, folder / "music2latent.pt")
