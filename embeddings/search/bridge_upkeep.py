"""Keeps bridges up to date without anybody asking: texts should work for every model as soon as they can."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from embeddings.encoders.registry import MODEL_KEYS, TEXT_MODEL
from embeddings.errors import TextUnavailable
from embeddings.search.bridge import Bridge, fitted_bridge, write_bridge
from embeddings.search.bridge_fitting import (
    FEWEST_TRACKS,
    MOST_TRACKS,
    NEAREST,
    fit_bridge,
    tracks_to_learn_from,
)
from embeddings.spaces.lifecycle import live_space

logger = logging.getLogger(__name__)

BRIDGED = tuple(model for model in MODEL_KEYS if model != TEXT_MODEL.audio_model)
GROWTH = 2  # learnt again once there are so many times the tracks that it knows


def bridges_due() -> list[str]:
    """Return the models whose bridge is missing, of other vectors, or learnt from far fewer tracks than there are."""
    return [model for model in BRIDGED if _is_due(model)]


def fit_due_bridges() -> Iterator[Bridge]:
    """Fit what is due, yielding each bridge when it is in use; one that cannot be fitted is logged. Raises OSError."""
    for model in bridges_due():
        try:
            bridge = fit_bridge(model)
        except TextUnavailable as error:
            logger.warning("no bridge from texts to %s: %s", model, error)
            continue
        write_bridge(bridge)
        logger.info("%s", worth(bridge))
        yield bridge


def worth(bridge: Bridge) -> str:
    """Say what a bridge is worth."""
    origin = bridge.origin
    return (
        f"{origin.model} answers to texts, learnt from {origin.tracks:,} tracks: of {origin.kept_aside:,} kept aside "
        f"{origin.recall:.0%} are among the {NEAREST} nearest to where their sound leads "
        f"(by chance {min(1.0, NEAREST / origin.kept_aside):.1%})"
    )


def _is_due(model: str) -> bool:
    words, space = live_space(TEXT_MODEL.audio_model), live_space(model)
    if words is None or space is None:
        return False
    tracks = min(MOST_TRACKS, tracks_to_learn_from(words, space))
    if tracks < FEWEST_TRACKS:
        return False
    bridge = fitted_bridge(words, space, model)
    return bridge is None or bridge.origin.tracks * GROWTH <= tracks
