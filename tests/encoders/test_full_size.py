"""Twins in the published sizes: gigabytes, minutes, so in the soak; ``full_size.py`` prints what each model takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from embeddings.encoders.base import Encoder
from embeddings.encoders.registry import ENCODERS
from tests.encoders import twins


@pytest.mark.soak
@pytest.mark.parametrize("kind", ENCODERS, ids=lambda kind: str(kind.key))
def test_a_full_size_checkpoint_loads_and_embeds(kind: type[Encoder], tmp_path: Path):
    folder = twins.make_offline_twin(kind.key, tmp_path, "published")
    command = [sys.executable, "-m", "tests.encoders.full_size", kind.key, str(folder)]
    run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=settings.BASE_DIR)
    print(run.stdout)
    shutil.rmtree(tmp_path)  # pytest would keep the gigabytes of three runs
    assert json.loads(run.stdout.splitlines()[-1])["dimension"] == kind.published_dimension
