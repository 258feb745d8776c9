"""Whatever comes: each request gets one object, and the server goes on."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from django.db import InterfaceError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embeddings.audio.pool import DecodePool
from embeddings.models import Upload, UploadEmbedding
from embeddings.uploads import patience
from embeddings.uploads.service import Uploads
from tests.instances import EmbedderProcess
from tests.uploads.client import GoClient

Arrived = Callable[..., Path]
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PATHS = st.sampled_from(
    ["/", "/nothing", "/dev/null", "/dev/zero", "/etc/hostname", "/proc/self/mem", "/tmp", "/\ud800"]
)
SETTINGS = st.dictionaries(
    st.sampled_from(["renameEnabled", "dedupThreshold", "openAiEndpoint", "similaritySearchEnabled"]), ODD
)
REQUESTS = st.fixed_dictionaries(
    {}, optional={"music_file": PATHS | ODD, "name": ODD, "cue_file": PATHS | ODD, "settings": SETTINGS | ODD}
)
LINES = st.binary() | (ODD | REQUESTS).map(lambda found: json.dumps(found).encode() + b"\n")


def test_every_request_gets_one_object(client: GoClient) -> None:
    @settings(max_examples=200, suppress_health_check=list(HealthCheck))
    @given(LINES)
    def ask(line: bytes) -> None:
        assert client.send(line)["status"] == "error"

    ask()
    assert client.upload("/nothing")["message"] == "nothing cannot be read: no such file: /nothing"


@pytest.mark.parametrize("step", ["tags", "audio_hash"])
def test_a_file_that_vanishes_is_told_so(
    client: GoClient, embedder: EmbedderProcess, arrived: Arrived, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path, look = arrived(), getattr(DecodePool, step)
    monkeypatch.setattr(DecodePool, step, lambda *given, **more: (look(*given, **more), path.unlink())[0])
    assert "no such file" in str(client.upload(path))


BROKEN = [InterfaceError("connection already closed"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate")]


@pytest.mark.parametrize("error", BROKEN)
def test_what_cannot_be_listed_is_answered(client: GoClient, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(Upload.objects, "create", Mock(side_effect=error))
    assert "no such file" in client.upload("/nothing")["message"]


def test_what_is_no_json_is_answered(client: GoClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Uploads, "answer", lambda *_: {"status": "ok", "similarity": float("nan")})
    assert "navembed failed" in client.upload("/nothing")["message"]


@pytest.mark.parametrize("place", ["embeddings.uploads.kept.known", "embeddings.uploads.service.accept"])
def test_a_database_that_is_away_is_no_error(
    client: GoClient, embedder: EmbedderProcess, arrived: Arrived, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(place, Mock(side_effect=BROKEN[0]))
    answer = client.upload(arrived())
    assert (answer["status"], "already closed" in answer["warning"]) == ("ok", True)


def soaked(client: GoClient, paths: list[Path], clients: int, while_running: Callable[[int], None]) -> Counter[str]:
    """Upload the files from so many clients at once; returns how often which status was answered."""
    left, answers, lock = list(enumerate(paths)), Counter[str](), threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not left:
                    return
                number, path = left.pop(0)
            while_running(number)
            answer = client.upload(path)
            with lock:
                answers["warning" if "warning" in answer else answer["status"]] += 1

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_an_embedder_that_is_killed_loses_no_upload(
    client: GoClient, embedder: EmbedderProcess, arrived: Arrived, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short form of `test_a_thousand_uploads`."""
    monkeypatch.setattr(patience, "PAUSE_SECONDS", 0.2)
    paths = [arrived(seed=seed) for seed in range(6)]
    answers: Counter[str] = Counter()
    waiting = threading.Thread(target=lambda: answers.update(soaked(client, paths, 3, lambda number: None)))
    waiting.start()
    embedder.restart(wait=False)  # kills the one that runs; in this thread, with which it would end
    waiting.join()
    assert answers == {"ok": 6}
    assert UploadEmbedding.objects.count() == 6


@pytest.mark.soak
def test_a_thousand_uploads(client: GoClient, embedder: EmbedderProcess, arrived: Arrived, settings: Any) -> None:
    """Eight clients, with the embedder killed now and then: all are answered, none is lost, memory stays flat."""
    paths = [arrived(seed=seed) for seed in range(40)]
    memory: dict[int, int] = {}
    answers: Counter[str] = Counter()

    def look(number: int) -> None:
        if number in (100, 900):
            memory[number] = int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    waiting = threading.Thread(target=lambda: answers.update(soaked(client, paths * 25, 8, look)))
    waiting.start()
    while waiting.is_alive():
        waiting.join(15)
        UploadEmbedding.objects.all().delete()  # so that there is something to embed
        embedder.restart(wait=False)
    assert answers == {"ok": 1_000}
    assert Upload.objects.filter(accepted=True).count() == 1_000
    assert memory[900] - memory[100] < 64 * 2**20
