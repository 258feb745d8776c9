"""From what each model found to one list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from embeddings.search.query import INTERSECTION, PRIORITY
from embeddings.search.retrieval import Found

Findings = Mapping[str, Mapping[str, Found]]
"""By model, what it says of each of its candidates."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A track, and what the models that found it say together."""

    track_id: str
    score: float
    found: Mapping[str, Found]
    lost: float = 0.0
    """The share of the score that what is not wanted has taken, 0 to 1."""

    def lowered(self, share: float) -> Candidate:
        """Return the candidate with this share of its score taken."""
        if not share:
            return self
        return replace(self, score=self.score * (1 - share), lost=1 - (1 - self.lost) * (1 - share))

    @property
    def closeness(self) -> float:
        """To the most similar disliked track, by the model that finds them closest."""
        return max(found.closeness for found in self.found.values())


def merged(findings: Findings, merge: str, *, priorities: Mapping[str, int], min_agreement: int) -> list[Candidate]:
    """Return the tracks that enough models found, with one score each; ordered by id.

    union: mean of the scores of the models that found it. intersection: the same, of tracks that all found.
    priority: the score of the models with the lowest number among those that found it.
    """
    needed = len(findings) if merge == INTERSECTION else min_agreement
    candidates = []
    for track_id in sorted(set(chain.from_iterable(findings.values()))):
        found = {model: tracks[track_id] for model, tracks in findings.items() if track_id in tracks}
        if len(found) >= needed:
            heard = _most_preferred(found, priorities) if merge == PRIORITY else found
            candidates.append(Candidate(track_id, _mean(found[model].score for model in heard), found))
    return candidates


def _most_preferred(models: Iterable[str], priorities: Mapping[str, int]) -> list[str]:
    numbers = {model: priorities.get(model, float("inf")) for model in models}
    lowest = min(numbers.values())
    return [model for model, number in numbers.items() if number == lowest]


def _mean(scores: Iterable[float]) -> float:
    values: Sequence[float] = list(scores)
    return sum(values) / len(values)
