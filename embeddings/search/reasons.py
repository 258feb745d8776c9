"""Why a track was recommended, in words that a listener understands."""

from __future__ import annotations

from collections.abc import Mapping

from embeddings.encoders.registry import encoder_class
from embeddings.search.comparing import Probe
from embeddings.search.merging import Candidate
from embeddings.search.query import UPLOAD_ID


def closest_seed(candidate: Candidate) -> Probe:
    """Return the seed that speaks most for the candidate, by the model that is surest."""
    return max(candidate.found.values(), key=lambda found: found.score).closest


def reason_for(candidate: Candidate, names: Mapping[str, str]) -> str:
    """Return a sentence such as "sounds like Artist - Title (MuQ, MERT agree)"; ``names`` of tracks by id."""
    models = [short_label(model) for model in candidate.found]
    by = f"({', '.join(models)}{' agree' if len(models) > 1 else ''})"
    seed = closest_seed(candidate)
    if seed.prompt:
        return f"sounds like “{seed.prompt}” {by}"
    if seed.is_text:
        return f"sounds like what you described {by}"
    if seed.track_id == UPLOAD_ID:
        return f"sounds like the file you uploaded {by}"
    return f"sounds like {names.get(seed.track_id, 'what you chose')} {by}"


def short_label(model: str) -> str:
    """Return a model's name for listeners: MuQ, MERT, Music2Latent."""
    return encoder_class(model).label.partition("-")[0]
