"""Regression from sums, against the textbook's formula over all rows at once."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.search import ridge
from embeddings.search.ridge import Moments, choose_strength, solve

Rows = NDArray[np.float64]


def rows(count: int = 60, p: int = 5, q: int = 7, *, noise: float = 0.1) -> tuple[Rows, Rows]:
    random = np.random.default_rng(3)
    x = random.normal(size=(count, p)) * [1, 2, 0.5, 1, 0.1] + 3
    return x, x @ random.normal(size=(p, q)) + noise * random.normal(size=(count, q)) - 1


def moments(x: Rows, y: Rows) -> Moments:
    found = Moments.zeros(x.shape[1], y.shape[1])
    found.add(x, y)
    return found


@pytest.mark.parametrize("strength", [1e-6, 0.1, 10.0])
def test_it_is_the_textbooks_regression(strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge, "COLUMNS", 3)
    x, y = rows()
    centred, penalty = x - x.mean(axis=0), strength * np.square(x - x.mean(axis=0)).sum() / 5
    expected = np.linalg.solve(centred.T @ centred + penalty * np.eye(5), centred.T @ (y - y.mean(axis=0)))
    found = solve(moments(x, y), strength)
    np.testing.assert_allclose(found.weights, expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.predict(x).mean(axis=0), y.mean(axis=0))


def test_moments_of_parts_add_up_and_can_be_left_out() -> None:
    x, y = rows()
    parts = moments(x[:20], y[:20]), moments(x[20:], y[20:])
    for found, expected in ((parts[0] + parts[1], moments(x, y)), (moments(x, y) - parts[0], parts[1])):
        for name, value in vars(expected).items():
            np.testing.assert_allclose(getattr(found, name), value, err_msg=name)


def folds(x: Rows, y: Rows) -> list[Moments]:
    return [moments(x[k::5], y[k::5]) for k in range(5)]


def test_more_noise_asks_for_a_stronger_penalty() -> None:
    strengths = [choose_strength(folds(*rows(noise=noise)))[0] for noise in (0.01, 30)]
    assert strengths[0] < strengths[1]


def test_what_is_explained_is_told_of_rows_that_were_not_seen() -> None:
    x, y = rows(noise=0.01)
    assert choose_strength(folds(x, y))[1] > 0.99
    assert choose_strength(folds(x, np.random.default_rng(1).normal(size=y.shape)))[1] < 0.05


def test_the_error_by_moments_is_that_of_the_rows() -> None:
    x, y = rows()
    fitted = solve(moments(x[:30], y[:30]), 0.01)
    expected = np.square(fitted.predict(x[30:]) - y[30:]).sum()
    assert ridge._error(fitted, moments(x[30:], y[30:])) == pytest.approx(expected, rel=1e-9)
