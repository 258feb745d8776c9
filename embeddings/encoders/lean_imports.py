"""Imports less with the models' packages, so that models load sooner."""

from __future__ import annotations


def leave_out_unused() -> None:
    """Tells transformers that scikit-learn and SciPy are not there: it would import them, for one to two seconds each.

    It compares drafts of texts with the one, and trains detectors of objects with the other. Called before anything
    that imports transformers' models.
    """
    from transformers import utils

    utils.is_sklearn_available = utils.is_scipy_available = lambda: False
