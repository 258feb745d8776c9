"""What is asked of a recommendation, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from embeddings.encoders.registry import ENCODERS

UNION, INTERSECTION, PRIORITY = MERGES = ("union", "intersection", "priority")
PRIORITIES = {encoder.key: number for number, encoder in enumerate(ENCODERS, start=1)}
"""Of the models, where the caller says nothing: muq 1, mert 2, latent 3."""
TEXT_SOURCE, TEXT_ID = "text", "_text_query_"
UPLOAD_ID = "_upload_"

Numbers = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Seed:
    """A track to start from, or an ``embedding`` [dimension] in its place, which counts for the model that it fits."""

    track_id: str = ""
    weight: float = 1.0
    source: str = ""
    played_at: datetime | None = None
    embedding: Numbers | None = None

    @property
    def is_text(self) -> bool:
        return self.source == TEXT_SOURCE or self.track_id == TEXT_ID


@dataclass(frozen=True, eq=False)
class Query:
    """One wish for music; docs/search.md explains every field. Times are aware, strengths lie between 0 and 1."""

    seeds: Sequence[Seed] = ()
    limit: int = 25
    mode: str = ""
    models: Sequence[str] = ("muq",)
    merge: str = UNION
    priorities: Mapping[str, int] = field(default_factory=PRIORITIES.copy)
    """The lowest number wins; a model without one comes last."""
    min_agreement: int = 1
    diversity: float = 0.0
    exclude_track_ids: Sequence[str] = ()
    exclude_playlist_ids: Sequence[str] = ()
    disliked_track_ids: Sequence[str] = ()
    disliked_artist_ids: Sequence[str] = ()
    dislike_strength: float = 1.0
    negative_prompts: Sequence[str] = ()
    negative_penalty: float = 0.85
    """What negative prompts and embeddings leave of the score of a track that is just like them: 1 is no penalty."""
    negative_embeddings: Mapping[str, Sequence[Numbers]] = field(default_factory=dict)
    library_ids: Sequence[int] = ()
    """Empty means all."""
    user_id: str = ""
    """Whose libraries, by id or name; empty means that nobody in particular asks, and nothing is withheld."""
    texts: Sequence[str] = ()
    """Prompts to start from, as seeds of weight 1."""
    max_seconds: float = 0.0
    """What is longer does not come; 0 means that everything may."""
    per_artist: int = 0
    """How many tracks of an artist may come; 0 means as many as ``diversity`` leaves."""
    seeds_are_one: bool = False
    """They are an album or an artist: those that sound alike count as one, so it may be a single group."""
    seeds_may_come: bool = False
    """Else neither seeds nor other files of the same recordings come."""


@dataclass(frozen=True)
class Recommendation:
    """A track, and why. ``score`` is 0 to 1: the share of chance pairs of tracks that are less alike."""

    track_id: str
    score: float
    reason: str | None
    models: tuple[str, ...]
    """Which found it."""
    negative_similarity: float | None
    """0 to 1, to the most similar negative prompt or embedding; None when there is none to compare with."""


@dataclass(frozen=True)
class Answer:
    """Tracks, best first, and what the caller should know of what is missing."""

    tracks: list[Recommendation]
    warnings: list[str]
