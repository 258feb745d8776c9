"""What every embedder of this instance says of itself, also when it says nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from embeddings.embedder.client import EmbedderClient
from embeddings.errors import EmbedderStarting
from navembed_site.errors import NavembedError

ANSWER_SECONDS = 3.0  # it answers at once, or it is frozen


@dataclass(frozen=True)
class EmbedderState:
    """One device's embedder. Without an answer ``error`` says why, and the rest is empty."""

    device: int
    """Its number."""
    error: str = ""
    starting: bool = False
    busy: bool = False
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By key: loaded, device, bytes, idle_seconds, load_seconds, batch (``ModelState``)."""
    stage_seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    """Spent since its start, by stage (load, decode, encode, pool) and, for encode, model."""

    @property
    def answers(self) -> bool:
        return not self.error


def embedder_states() -> list[EmbedderState]:
    """Ask the embedder of each device."""
    return [_state(device) for device in range(len(settings.DEVICES))]


def unload_everywhere(model: str) -> dict[int, bool | str]:
    """Unload a model in every embedder; returns by device whether it did, or why it could not be asked.

    One that is in use stays loaded.
    """
    answers: dict[int, bool | str] = {}
    for device in range(len(settings.DEVICES)):
        try:
            answers[device] = EmbedderClient(device, timeout=ANSWER_SECONDS).unload(model)
        except NavembedError as error:
            answers[device] = str(error)
    return answers


def _state(device: int) -> EmbedderState:
    try:
        status = EmbedderClient(device, timeout=ANSWER_SECONDS).status()
    except NavembedError as error:
        return EmbedderState(device, str(error), isinstance(error, EmbedderStarting))
    models = {model.pop("key"): model for model in status["models"]}
    seconds = {(row["stage"], row["model"]): row["seconds"] for row in status["stage_seconds"]}
    seconds["load", ""] = status["seconds_spent_loading"]
    return EmbedderState(device, busy=status["busy"], models=models, stage_seconds=seconds)
