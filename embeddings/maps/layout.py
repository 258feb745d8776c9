"""From many dimensions to two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 15
"""What UMAP keeps together of each track; its own default."""
FEWEST_FOR_UMAP = 2 * NEIGHBOURS
OUTLIERS, MARGIN = 0.002, 1.1  # of the places; of what is seen
MOST_CLUSTERS, FEWEST_IN_CLUSTER = 10, 20

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Axes:
    """The directions in which vectors differ most: mean float32 [d], directions float32 [d, axes]."""

    mean: Floats
    directions: Floats

    def places(self, rows: Floats) -> Floats:
        """Return vectors [n, d] along the axes: float32 [n, axes]."""
        return np.asarray((rows - self.mean) @ self.directions, np.float32)


def principal_axes(rows: Floats, count: int) -> Axes:
    """Return the first ``count`` principal axes of a sample of vectors [n, d], zeros where it has fewer."""
    mean = rows.mean(axis=0)
    _, _, found = np.linalg.svd(rows - mean, full_matrices=False)
    # An axis has no sign of its own: without one, each picture would be turned another way.
    signs = np.sign(found[np.arange(len(found)), np.abs(found).argmax(axis=1)])
    directions = np.zeros((rows.shape[1], count), np.float32)
    directions[:, : len(found)] = (found * signs[:, None])[:count].T
    return Axes(mean, directions)


def framed(places: Floats) -> Floats:
    """Return places [n, 2] moved and scaled so that all but a few outliers lie within −1 … 1."""
    low = np.quantile(places, OUTLIERS, axis=0, method="lower")
    high = np.quantile(places, 1 - OUTLIERS, axis=0, method="higher")
    half = MARGIN * float((high - low).max()) / 2 or 1.0
    return np.asarray((places - (low + high) / 2) / half, np.float32)


def umap(components: Floats) -> Floats:
    """Return UMAP's picture of vectors [n, axes]: float32 [n, 2]; it begins with their principal axes.

    McInnes, Healy, Melville, "UMAP: Uniform Manifold Approximation and Projection" (2018). The same each time.
    """
    from umap import UMAP  # costs seconds

    method = UMAP(n_neighbors=NEIGHBOURS, init=components[:, :2], random_state=0, n_jobs=1, low_memory=True)
    return np.asarray(method.fit_transform(components), np.float32)


def clusters(components: Floats) -> NDArray[np.uint8]:
    """Return which of a few groups each of the vectors [n, axes] belongs to, the largest first."""
    count = min(MOST_CLUSTERS, len(components) // FEWEST_IN_CLUSTER)
    if count < 2:
        return np.zeros(len(components), np.uint8)
    from sklearn.cluster import MiniBatchKMeans  # costs seconds

    found = MiniBatchKMeans(count, random_state=0, n_init=3).fit_predict(components)
    order = np.argsort(-np.bincount(found, minlength=count), kind="stable")
    return np.asarray(np.argsort(order)[found], np.uint8)
