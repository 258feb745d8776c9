"""A command is there in half a second of processor time: it imports what it uses."""

from __future__ import annotations

import subprocess
import sys

from django.conf import settings

SLOW = {"pymilvus", "pandas", "torch", "transformers", "av", "librosa", "umap", "pyarrow"}
PROGRAM = "import sys, django; django.setup(); import navembed_site.urls; print(*sys.modules)"


def test_all_pages_and_commands_are_known_without_slow_imports() -> None:
    environment = {"DJANGO_SETTINGS_MODULE": "navembed_site.settings", "NAVEMBED_HOME": str(settings.NAVEMBED_HOME)}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, cwd=settings.BASE_DIR, capture_output=True, text=True, check=True)
    assert not SLOW & set(done.stdout.split())
