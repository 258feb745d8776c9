"""Scratch instances: Python in a process of its own that sees nothing of the user's instance."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from navembed_site.errors import NavembedError

TOLD_CHARACTERS = 2_000


class StepFailed(NavembedError):
    """A step of the measurement ended with an error."""


def environment_of(home: Path, **variables: str) -> dict[str, str]:
    """Return the environment of an instance in ``home``."""
    foreign = {name: value for name, value in os.environ.items() if name not in settings.KNOWN_VARIABLES}
    return foreign | {"NAVEMBED_HOME": str(home)} | variables


def python(*arguments: str, environment: dict[str, str], told: bytes = b"") -> str:
    """Run Python in navembed's folder, with ``told`` as its input, and return what it prints. Raises StepFailed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=settings.BASE_DIR,
        env=environment,
        input=told,
        capture_output=True,
        check=False,
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode:
        raise StepFailed(f"{arguments[1]} failed: {said[-TOLD_CHARACTERS:].strip()}")
    return done.stdout.decode()
