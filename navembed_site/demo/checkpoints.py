"""Tiny checkpoints of the three models: random weights, real model classes, the files that a hub gives.

They show that the machinery works; their neighbours say nothing about music.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RATE = 24_000
AUDIO_PART = "tiny-muq"
TEXT_PART = "tiny-xlm-roberta"
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
VOCABULARY = 600
WORDS = """
a an and for from in of on some the to with without very slow fast loud quiet soft hard dark bright
warm cold happy sad calm wild dreamy angry gentle heavy light old new strange simple complex music
song tune piece melody harmony rhythm beat bass drum drums piano guitar violin cello flute trumpet
saxophone organ harp synth synthesizer voice vocal singer choir female male acoustic electric
electronic ambient classical baroque opera jazz blues rock punk metal folk country soul funk disco
techno house trance dub reggae hip hop rap pop latin samba tango waltz soundtrack noise drone lo-fi
orchestra quartet solo live studio instrumental dance party night morning summer winter rain sea
road love loss war dream sleep study
"""

CONFORMER = {
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_depthwise_kernel_size": 7,
    "position_embeddings_type": "rotary",
}
TRANSFORMER = {"dim": 32, "heads": 2, "dim_head": 16, "ff_mult": 2, "attn_dropout": 0.0, "ff_dropout": 0.0}
MULAN: dict[str, Any] = {
    "mulan": {
        "sr": RATE,
        "clip_secs": 10,
        "dim_latent": 512,
        "decoupled_contrastive_learning": True,
        "rank_contrast": True,
    },
    "audio_model": {"name": AUDIO_PART, "model_dim": 16, "use_layer_idx": -1},
    "text_model": {"name": TEXT_PART, "model_dim": 16},
    "audio_transformer": {**TRANSFORMER, "tf_depth": 1},
    "text_transformer": {**TRANSFORMER, "tf_depth": 1, "max_seq_len": 128},
}
MUQ: dict[str, Any] = {
    "label_rate": 25, "num_codebooks": 1, "codebook_dim": 4, "codebook_size": 32, "features": ["melspec_2048"],
    "hop_length": 240, "n_mels": 128, "conv_dim": 4, "encoder_dim": 16, "encoder_depth": 2,
    "stat": {"melspec_2048_mean": 6.768444971712967, "melspec_2048_std": 18.417922652295623},
}  # fmt: skip
XLM_ROBERTA = {
    "architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta", "vocab_size": VOCABULARY, "hidden_size": 16,
    "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 130,
    "type_vocab_size": 1, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
PUBLISHED_TEXT = {
    "text_model": {"name": TEXT_PART, "model_dim": 768},
    "text_transformer": {**TRANSFORMER, "dim": 768, "tf_depth": 8, "heads": 8, "dim_head": 64, "ff_mult": 4},
}
PUBLISHED_XLM_ROBERTA = XLM_ROBERTA | {
    "vocab_size": 250_002, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3_072, "max_position_embeddings": 514,
}  # fmt: skip
MERT: dict[str, Any] = {
    "architectures": ["MERTModel"], "model_type": "mert_model", "hidden_size": 16, "num_hidden_layers": 24,
    "num_attention_heads": 1, "intermediate_size": 32, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
    "do_stable_layer_norm": True, "feat_extract_norm": "layer", "feat_extract_activation": "gelu",
    "feat_proj_layer_norm": True, "conv_bias": True, "conv_dim": [8] * 7, "conv_kernel": [10, 8, 3, 3, 3, 2, 2],
    "conv_stride": [10, 4, 2, 2, 2, 2, 2], "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
    "feature_extractor_cqt": False, "deepnorm": False, "sample_rate": RATE,
}  # fmt: skip
MERT_PREPROCESSOR = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True, "feature_size": 1,
    "padding_side": "right", "padding_value": 0, "return_attention_mask": True, "sampling_rate": RATE,
}  # fmt: skip
LATENT: dict[str, Any] = {
    # No blocks at the highest resolutions, where nearly all the time would go.
    "base_channels": 4, "multipliers_list": [1] * 5, "layers_list": [1] * 5, "layers_list_encoder": [0, 0, 1, 1, 1],
    "attention_list": [0] * 5, "attention_list_encoder": [0] * 5, "heads": 1, "cond_channels": 16,
    "bottleneck_base_channels": 32,
}  # fmt: skip


def make_tiny_checkpoints(folder: Path, *, seed: int = 0) -> dict[str, Path]:
    """Write a tiny checkpoint of each model below ``folder``; return their folders by model key.

    The same ``seed`` gives the same bytes. Dimensions: muq 1,536, mert 1,200, latent 576.
    """
    for key in MAKERS:
        make_tiny_checkpoint(key, folder / key, seed=seed)
    return {key: folder / key for key in MAKERS}


def make_tiny_checkpoint(key: str, folder: Path, *, seed: int = 0) -> None:
    """Write the tiny checkpoint of one model into ``folder``."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        MAKERS[key](folder)


def make_text_checkpoint(folder: Path) -> None:
    """Write MuQ-MuLan's text half alone, in the published size, with random weights: 1.3 GB to measure speed with."""
    import torch

    from embeddings.encoders.muq_network import text_tower

    config = MULAN | PUBLISHED_TEXT
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        write_part(folder, config, torch.nn.ModuleDict({"mulan": text_tower(config, PUBLISHED_XLM_ROBERTA)}))
    _write_tokenizer(folder / TEXT_PART)
    write_json(folder / TEXT_PART / "config.json", PUBLISHED_XLM_ROBERTA)


def _make_muq(folder: Path) -> None:
    import torch
    from muq import MuQ
    from muq.muq_mulan.models.mulan import MuLanModel
    from transformers import Wav2Vec2ConformerConfig

    from embeddings.encoders.muq_network import audio_tower, text_tower

    w2v2 = Wav2Vec2ConformerConfig(**CONFORMER, hidden_size=16, num_hidden_layers=2, layerdrop=0.0).to_dict()
    audio_config = {**MUQ, "w2v2_config": {k: v for k, v in w2v2.items() if k not in {"id2label", "label2id"}}}
    with torch.random.fork_rng(devices=[]):  # MuQ seeds torch for everybody
        muq = MuQ(audio_config)
    write_part(folder / AUDIO_PART, audio_config, randomised(muq))
    _write_tokenizer(folder / TEXT_PART)
    audio, text = audio_tower(MULAN, audio_config), text_tower(MULAN, XLM_ROBERTA)
    write_part(folder / TEXT_PART, XLM_ROBERTA, randomised(text["text"].model))
    mulan = MuLanModel(audio["audio"], text["text"], **MULAN["mulan"])
    # The package reads nothing but safetensors from a folder.
    write_part(folder, MULAN, torch.nn.ModuleDict({"mulan": randomised(mulan)}))


def _make_mert(folder: Path) -> None:
    from transformers import HubertConfig, HubertModel

    from embeddings.encoders.mert import ARCHITECTURE

    network = randomised(HubertModel(HubertConfig(**{name: MERT[name] for name in ARCHITECTURE}, mask_time_prob=0.0)))
    published = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {}
    for name, tensor in network.state_dict().items():
        for ours, theirs in published.items():
            name = name.replace(ours, theirs)  # noqa: PLW2901
        state[name] = tensor
    write_json(folder / "config.json", MERT)
    write_json(folder / "preprocessor_config.json", MERT_PREPROCESSOR)
    _save(state, folder / "pytorch_model.bin")


def _make_latent(folder: Path) -> None:
    from embeddings.encoders.latent import build_network

    write_json(folder / "config.json", LATENT)
    _save({"gen_state_dict": randomised(build_network(LATENT, "UNet")).state_dict()}, folder / "music2latent.pt")


def randomised(network: Any) -> Any:
    """Give every weight matrix noise that keeps signals at their size; some of these classes begin with zeros."""
    import torch

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("original0"):  # lengths of a weight-normalised convolution
                parameter.fill_(1.0)
            elif parameter.ndim > 1:
                parameter.normal_(0.0, (2.0 / parameter[0].numel()) ** 0.5)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.1)
    return network


def _write_tokenizer(folder: Path) -> None:
    """Train a byte-level tokenizer on a few words: no text is unknown to it."""
    from tokenizers import (  # type: ignore[import-untyped]
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        processors,
        trainers,
    )

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = dict(zip(("bos", "pad", "eos", "unk", "mask"), SPECIAL_TOKENS, strict=True))
    tokens = {f"{name}_token": token for name, token in names.items()}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **tokens})


def write_part(folder: Path, config: dict[str, Any], network: Any) -> None:
    """Write a network as a hub repository has it."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _save(state: dict[str, Any], path: Path) -> None:
    import torch

    torch.save(state, path)


MAKERS = {"muq": _make_muq, "mert": _make_mert, "latent": _make_latent}
