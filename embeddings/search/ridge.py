"""Ridge regression from sums: one pass over any number of rows, memory that depends on their width alone.

Minimises |Y - 1b' - XW|² + λ|W|² (Hoerl & Kennard, "Ridge regression", Technometrics 12, 1970); the intercept b is
not penalised, so that W follows from centred moments: W = (X'X + λI)⁻¹ X'Y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

STRENGTHS = tuple(10.0**power for power in range(-6, 3))
"""Penalties that are tried, as multiples of the mean variance of an input."""
COLUMNS = 4096  # outputs that are solved for at a time

Rows = NDArray[Any]


class Ridge(NamedTuple):
    """A fitted map from rows [n, p] to rows [n, q]."""

    weights: Rows
    """[p, q]"""
    intercept: Rows
    """[q]"""

    def predict(self, rows: Rows) -> Rows:
        return np.asarray(rows @ self.weights + self.intercept)


@dataclass
class Moments:
    """Sums over pairs of rows x [p], y [q]. Those of parts of the rows add up."""

    count: int
    x: Rows
    y: Rows
    xx: Rows
    xy: Rows
    yy: float

    @classmethod
    def zeros(cls, p: int, q: int, dtype: DTypeLike = np.float64) -> Moments:
        """``dtype`` is that of X'Y, the one that is large; its rows should then have little mean."""
        return cls(0, np.zeros(p), np.zeros(q), np.zeros((p, p)), np.zeros((p, q), dtype), 0.0)

    def add(self, x: Rows, y: Rows) -> None:
        """Take in rows [n, p] and [n, q]."""
        self.xy += x.astype(self.xy.dtype).T @ y.astype(self.xy.dtype)
        exact = x.astype(np.float64)
        self.count += len(x)
        self.x += exact.sum(axis=0)
        self.y += y.sum(axis=0, dtype=np.float64)
        self.xx += exact.T @ exact
        self.yy += float(np.square(y, dtype=np.float64).sum())

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(mine + theirs for mine, theirs in zip(self._sums(), other._sums(), strict=True)))

    def __sub__(self, other: Moments) -> Moments:
        """The moments of the rows that are not in ``other``."""
        return Moments(*(mine - theirs for mine, theirs in zip(self._sums(), other._sums(), strict=True)))

    def _sums(self) -> tuple[Any, ...]:
        return tuple(vars(self).values())


def solve(moments: Moments, strength: float) -> Ridge:
    """Fit; the penalty is ``strength`` times the mean variance of an input. Overwrites ``moments.xy``."""
    x, y = moments.x / moments.count, moments.y / moments.count
    values, basis = np.linalg.eigh(moments.xx - moments.count * np.outer(x, x))
    values = np.maximum(values, 0.0)
    penalty = max(strength * float(values.mean()), np.finfo(np.float64).tiny)
    inverse = (basis / (values + penalty)) @ basis.T
    weights = moments.xy
    for start in range(0, len(y), COLUMNS):
        part = slice(start, start + COLUMNS)
        weights[:, part] = inverse @ (weights[:, part] - moments.count * np.outer(x, y[part]))
    return Ridge(weights, y - x @ weights)


def choose_strength(folds: Sequence[Moments], strengths: Sequence[float] = STRENGTHS) -> tuple[float, float]:
    """Return the best strength by cross-validation, and the share of the variance that it explains of unseen rows."""
    whole = reduce(add, folds)
    errors, variance = np.zeros(len(strengths)), 0.0
    for fold in folds:
        rest = whole - fold
        variance += _error(Ridge(np.zeros_like(rest.xy), rest.y / rest.count), fold)
        errors += [_error(solve(whole - fold, strength), fold) for strength in strengths]
    best = int(errors.argmin())
    return strengths[best], 1.0 - float(errors[best]) / variance if variance else 0.0


def _error(ridge: Ridge, rows: Moments) -> float:
    """Return the sum of squared errors over the rows of these moments."""
    w, b = ridge
    cross = np.sum(w * (rows.xy - np.outer(rows.x, b)))
    return float(rows.yy - 2 * b @ rows.y + rows.count * b @ b - 2 * cross + np.sum(w * (rows.xx @ w)))
