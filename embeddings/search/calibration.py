"""What a cosine means: those of one model are all near 1, another's lie around 0.

Φ((cosine − μ) / σ), with mean and deviation of the cosines of 10,000 random pairs of tracks of the space: about the
share of pairs that are less alike. A text is compared with music, and such cosines are of another size than those
between tracks: they are calibrated by the same text's with the space's sample of tracks.
"""

from __future__ import annotations

import hashlib
import logging
import math
from typing import Any, NamedTuple

import numpy as np
from django.db import DatabaseError

from embeddings.models import EmbeddingSpace
from embeddings.search.comparing import Floats, gram
from embeddings.search.deadline import Deadline
from embeddings.spaces.rows import rows_of, sample, vector_bytes

logger = logging.getLogger(__name__)

PAIRS = 10_000
SAMPLE_BYTES = 40 * 2**20  # of vectors among which the pairs are drawn: 273 of MERT's
MOST_SAMPLED = 1_000
KEPT_SAMPLE = 256  # keys of embeddings, which follow new ids: for texts
SMALLEST_DEVIATION = 1e-4


class Calibration(NamedTuple):
    """Mean and deviation of the cosines between tracks taken at random."""

    mean: float = 0.0
    deviation: float = 1.0

    def share(self, cosines: Floats) -> Floats:
        """Return Φ((cosine − μ) / σ), 0 to 1, of any shape."""
        from scipy.special import ndtr

        return np.asarray(ndtr((cosines - self.mean) / self.deviation), np.float64)

    def cosine(self, share: float) -> float:
        """Return the cosine that has this share, which lies between 0 and 1."""
        from scipy.special import ndtri

        return float(self.mean + self.deviation * ndtri(share))


def calibration_of(cosines: Floats) -> Calibration:
    """Return that of these cosines, drawn at random; the neutral one of fewer than two."""
    if cosines.size < 2:
        return Calibration()
    return Calibration(float(cosines.mean()), max(float(cosines.std()), SMALLEST_DEVIATION))


def calibrate(space: EmbeddingSpace, *, deadline: Deadline | None = None) -> dict[str, Any]:
    """Draw 10,000 pairs, seeded by the space's fingerprint, and keep what they tell with the space.

    Reads at most 40 MB of vectors: the pairs are drawn among at most 1,000 tracks. Raises OutOfTime.
    """
    size = min(MOST_SAMPLED, SAMPLE_BYTES // vector_bytes(space))
    drawn = dict(sample(space, size).values_list("pk", "track_id"))
    ids, among = gram(space, drawn.values(), deadline or Deadline(math.inf))
    found = Calibration()
    if len(ids) > 1:
        random = np.random.default_rng(int(hashlib.sha256(space.fingerprint.encode()).hexdigest()[:16], 16))
        one = random.integers(len(ids), size=PAIRS)
        other = (one + random.integers(1, len(ids), size=PAIRS)) % len(ids)  # never the same track
        found = calibration_of(among[one, other])
    kept = {
        "mean": found.mean,
        "deviation": found.deviation,
        "vectors": len(ids),
        "keys": list(drawn)[:KEPT_SAMPLE],
    }
    space.calibration = kept
    try:
        EmbeddingSpace.objects.filter(pk=space.pk).update(calibration=kept)
    except DatabaseError as error:  # the next one computes it again
        logger.warning("the calibration of %s could not be kept: %s", space, error)
    return kept


def space_calibration(space: EmbeddingSpace, deadline: Deadline) -> Calibration:
    """Return the space's calibration; it is computed when there is none, or one of far fewer vectors.

    A job computes it at its end. Raises OutOfTime.
    """
    kept = space.calibration
    if not kept or "keys" not in kept or _has_outgrown(space, kept["vectors"]):
        kept = calibrate(space, deadline=deadline)
    return Calibration(kept["mean"], kept["deviation"])


def sampled(space: EmbeddingSpace) -> list[str]:
    """Return the tracks that texts are compared with for a measure: those of the kept sample that are still there."""
    keys = (space.calibration or {}).get("keys", [])
    return list(rows_of(space).filter(pk__in=keys).values_list("track_id", flat=True))


def _has_outgrown(space: EmbeddingSpace, vectors: int) -> bool:
    """Whether a calibration of few vectors is now one of less than half of them; looks at no more than it must."""
    if vectors >= min(MOST_SAMPLED, SAMPLE_BYTES // vector_bytes(space)):
        return False
    return space.embeddings.values("pk")[: 2 * vectors + 1].count() > 2 * vectors
