"""MuQ-MuLan's text half: words into the space of 512 numbers in which a MuQ embedding's mean lies."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from embeddings.encoders.base import Description, TextModel
from embeddings.encoders.muq import TEXT_FILES, WEIGHT_FILES, MuqEncoder, read_config
from embeddings.encoders.muq_network import text_tower
from embeddings.errors import WeightsUnusable
from embeddings.weights.locate import Checkpoint, find_checkpoint, find_part, sha256
from embeddings.weights.tensors import Selection

SPECIAL_TOKENS = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
UNUSED = ("text.model.pooler.",)


class MuqText(TextModel):
    """Answers text queries alone: the audio tower, which is as large, is not loaded for it."""

    key: ClassVar[str] = "muq-text"
    label: ClassVar[str] = "MuQ-MuLan, text half"
    description: ClassVar[str] = "Turns text queries into vectors beside MuQ's"
    audio_model: ClassVar[str] = MuqEncoder.key
    tensors: ClassVar[Selection] = Selection(prefix="mulan.", part="text", unused=UNUSED)

    def describe(self) -> Description:
        checkpoint, config, part = self._files()
        tokenizer = part.path("tokenizer.json")
        weights = self.weights_file()
        spoken = [config["text_model"], config["text_transformer"], part.json()]
        return Description(
            dimension=config["mulan"]["dim_latent"],
            fingerprint={
                "recipe": "muq-mulan-text",
                "version": 1,
                "config": hashlib.sha256(json.dumps(spoken, sort_keys=True).encode()).hexdigest(),
                "tokenizer": sha256(tokenizer),
                "weights": [sha256(weights)],
            },
            weight_bytes=weights.stat().st_size // 2,  # the other half hears
            source=checkpoint.label,
        )

    def require_files(self) -> None:
        checkpoint, _, part = self._files()
        checkpoint.path(*WEIGHT_FILES)
        for names in TEXT_FILES:
            part.path(*names)

    def _files(self) -> tuple[Checkpoint, dict[str, Any], Checkpoint]:
        """Return MuQ-MuLan, its config, and the XLM-RoBERTa it names."""
        checkpoint = find_checkpoint(self.source, MuqEncoder.files)
        config = read_config(checkpoint)
        if not isinstance(config.get("text_transformer"), dict):
            raise WeightsUnusable(f"{checkpoint.label}: config.json has no text_transformer: it cannot read texts")
        return checkpoint, config, find_part(checkpoint, config["text_model"]["name"], TEXT_FILES)

    def weights_file(self) -> Path:
        return MuqEncoder(self.source, self.device).weights_file()

    def _build(self) -> Any:
        from huggingface_hub.errors import StrictDataclassError

        checkpoint, config, part = self._files()
        try:
            network = text_tower(config, part.json())
            network["text"]._tokenizer = _tokenizer(part, config)
        except (KeyError, TypeError, ValueError, AttributeError, StrictDataclassError) as error:
            raise WeightsUnusable(f"{checkpoint.label}: its configs do not describe a text model: {error!r}") from error
        return network

    def _load(self) -> Any:
        network = super()._load()
        return _packed(network) if self.device == "cpu" else network

    def embed(self, prompt: str) -> NDArray[np.float32]:
        """Embed one prompt, in any language; returns a unit vector, float32 [512].

        One at a time: muq averages over padding, so that a prompt's vector would depend on the others of a batch.
        In float32 also on a GPU: it is one short sequence.
        """
        import torch

        with torch.inference_mode():
            words = self._network["text"](raw_texts=[prompt])
            latent = self._network["text_to_latents"](words)[0]
            vector: NDArray[np.float32] = torch.nn.functional.normalize(latent, dim=-1).cpu().numpy()
        return vector


def _packed(network: Any) -> Any:
    """Return the network with its matrices laid out as oneDNN multiplies, which else arranges them for every text.

    That took half of a short text's time.
    """
    import torch

    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return network
    for part in network.modules():
        if isinstance(part, torch.nn.Linear):
            weight = torch.ops.mkldnn._reorder_linear_weight(part.weight.detach())
            del part.weight
            part.register_buffer("weight", weight)
            multiply = torch.ops.mkldnn._linear_pointwise
            part.forward = partial(  # type: ignore[method-assign]
                multiply, W=weight, B=part.bias, attr="none", scalars=[], algorithm=""
            )
    return network


def _tokenizer(part: Checkpoint, config: dict[str, Any]) -> Any:
    """Return XLM-RoBERTa's tokenizer from its files alone; a text beyond what the network takes is cut."""
    from transformers import PreTrainedTokenizerFast

    given = part.json("tokenizer_config.json")
    tokens = {f"{name}_token": given.get(f"{name}_token") or token for name, token in SPECIAL_TOKENS.items()}
    tokens = {name: token["content"] if isinstance(token, dict) else token for name, token in tokens.items()}
    positions = part.json()["max_position_embeddings"] - part.json().get("pad_token_id", 1) - 1
    longest = min(positions, config["text_transformer"].get("max_seq_len", positions))
    path = part.path("tokenizer.json")
    try:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path), model_max_length=longest, **tokens)
    except Exception as error:  # what the tokenizers library raises has no class of its own
        raise WeightsUnusable(f"{path} is not a tokenizer: {error}") from error
    return partial(tokenizer, truncation=True)
