"""Imports less with the models' packages, so that models load sooner."""

from __future__ import annotations


def leave_out_scikit_learn() -> None:
    """Tells transformers that scikit-learn is not there: it would import it to compare drafts of texts.

    Called before anything that imports transformers' models.
    """
    from transformers import utils

    utils.is_sklearn_available = lambda: False
