VERSION = "0.1.0"  # as in pyproject.toml

OUR_CHECKS = ["navembed"]
"""System checks of commands: those of ``embeddings/checks.py``. Django's own import every page, for a second."""
