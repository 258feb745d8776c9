"""MuQ-MuLan's two towers, each built alone from configs; the muq package would fetch and load both, and more.

State dicts carry the names of the published weights without their leading ``mulan.``.
"""

from __future__ import annotations

from typing import Any

from embeddings.encoders.lean_imports import leave_out_unused

DROPPED = (
    "linear", "loss", "quantizer_melspec_2048", "rvq", "recon_proj", "cls_token", "conformer.pos_conv_embed",
)  # fmt: skip
"""Parts of MuQ that only its training uses; the last one nothing does: its attention knows places by rotation."""
WITHOUT_TARGETS = {
    "use_rvq_target": False,
    "use_vq_target": False,
    "use_encodec_target": False,
    "rvq_ckpt_path": None,
    "recon_loss_ratio": None,
    "is_flash": False,
}


def audio_tower(config: dict[str, Any], audio_config: dict[str, Any]) -> Any:
    """Build the audio tower with random weights: ModuleDict of ``audio`` and ``audio_to_latents``.

    ``config`` is MuQ-MuLan's config.json, ``audio_config`` that of the MuQ it names.
    """
    leave_out_unused()
    import torch
    from muq.muq_mulan.models.audio import AudioSpectrogramTransformerPretrained

    class Audio(AudioSpectrogramTransformerPretrained):  # type: ignore[misc]
        def _init_pretrained_model(self, _name: str) -> None:
            self.model = _muq(audio_config)

    model = config["audio_model"]
    audio = Audio(
        model_name="muq",
        model_dim=model["model_dim"],
        use_layer_idx=model.get("use_layer_idx", -1),
        **config["audio_transformer"],
        frozen_pretrained=False,
    )
    audio.aggregator = None  # used by nothing
    to_latents = torch.nn.Linear(audio.dim, config["mulan"]["dim_latent"])
    return torch.nn.ModuleDict({"audio": audio, "audio_to_latents": to_latents})


def _muq(audio_config: dict[str, Any]) -> Any:
    import torch
    from muq import MuQ

    conformer = {k: v for k, v in audio_config["w2v2_config"].items() if k not in {"id2label", "label2id"}}
    with torch.random.fork_rng(devices=[]):  # its quantizer seeds torch for everybody
        network = MuQ({**audio_config, **WITHOUT_TARGETS, "w2v2_config": conformer})
    for name in DROPPED:
        owner, _, part = name.rpartition(".")
        module = network.model.get_submodule(owner)
        if hasattr(module, part):
            delattr(module, part)
    network.model.linear = torch.nn.Identity()  # the logits of its training targets: computed, never used
    return network


def text_tower(config: dict[str, Any], text_config: dict[str, Any]) -> Any:
    """Build the text tower with random weights: ModuleDict of ``text`` and ``text_to_latents``.

    ``text_config`` is that of the XLM-RoBERTa it names. The caller sets ``text._tokenizer``.
    """
    leave_out_unused()
    import torch
    from muq.muq_mulan.models.text import TextTransformerPretrained
    from transformers import XLMRobertaConfig, XLMRobertaModel

    class Text(TextTransformerPretrained):  # type: ignore[misc]
        def _init_pretrained_model(self) -> Any:
            return XLMRobertaModel(XLMRobertaConfig(**text_config), add_pooling_layer=False)

    text = Text(
        model_name="xlm-roberta",
        model_dim=config["text_model"].get("model_dim"),
        **config["text_transformer"],
        frozen_pretrained=False,
    )
    to_latents = torch.nn.Linear(text.dim, config["mulan"]["dim_latent"])
    return torch.nn.ModuleDict({"text": text, "text_to_latents": to_latents})
