"""What is pushed down: what is disliked, and what sounds like what is not wanted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from embeddings.library import PresentTrack
from embeddings.models import EmbeddingSpace
from embeddings.search.calibration import Calibration
from embeddings.search.comparing import Probe, cosines
from embeddings.search.deadline import Deadline
from embeddings.search.merging import Candidate
from embeddings.search.query import Query
from embeddings.search.retrieval import group_calibrations
from embeddings.search.seeds import alone


def after_dislikes(
    candidates: Sequence[Candidate], tracks: Mapping[str, PresentTrack], query: Query
) -> list[Candidate]:
    """Return the candidates with the scores that dislikes leave: score · (1 − strength · closeness).

    The disliked tracks themselves, and those in which a disliked artist takes part, are as close as can be; at
    strength 1 they are left out.
    """
    disliked, artists = frozenset(query.disliked_track_ids), frozenset(query.disliked_artist_ids)
    kept = []
    for candidate in candidates:
        is_meant = candidate.track_id in disliked or not artists.isdisjoint(tracks[candidate.track_id].participants)
        closeness = 1.0 if is_meant else candidate.closeness
        if not (is_meant and query.dislike_strength >= 1):
            kept.append(candidate.lowered(query.dislike_strength * closeness))
    return kept


def after_negatives(
    candidates: Sequence[Candidate], similarities: Mapping[str, float], penalty: float
) -> list[Candidate]:
    """Return the candidates with their scores lowered to score · (1 − similarity · (1 − penalty)).

    So the lowest penalty is the strongest, and 1 is none: it is what is left of a score at similarity 1.
    """
    return [each.lowered(similarities.get(each.track_id, 0.0) * (1 - penalty)) for each in candidates]


def negative_similarities(
    space: EmbeddingSpace,
    negatives: Sequence[Probe],
    track_ids: Collection[str],
    calibration: Calibration,
    deadline: Deadline,
) -> dict[str, float]:
    """Return how like the tracks are to the most similar of the negatives, calibrated, 0 to 1. Raises OutOfTime."""
    groups = [alone(place) for place in range(len(negatives))]
    measures = group_calibrations(space, negatives, groups, calibration, deadline)
    ids, found = cosines(space, negatives, track_ids, deadline)
    answer: dict[str, float] = {}
    for column, measure in enumerate(measures):
        for track_id, share in zip(ids, measure.share(found[:, column]), strict=True):
            answer[track_id] = max(answer.get(track_id, 0.0), float(share))
    return answer
