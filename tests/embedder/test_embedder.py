"""The real embedder, asked over its socket, killed and frozen."""

from __future__ import annotations

from embeddings.embedder.client import EmbedderClient
from tests.instances import EmbedderProcess


def test_the_socket_is_only_for_its_owner(embedder: EmbedderProcess) -> None:
    assert embedder.socket.stat().st_mode & 0o777 == 0o600


def test_status_names_the_process_and_its_models(embedder: EmbedderProcess) -> None:
    status = EmbedderClient().status()
    assert status["pid"] == embedder.pid
    assert {model["key"] for model in status["models"]} == {"muq", "mert", "latent"}


def test_a_killed_embedder_is_back_for_the_next_test(embedder: EmbedderProcess) -> None:
    pid = embedder.pid
    embedder.kill()
    embedder.restart()
    assert EmbedderClient().status()["pid"] == embedder.pid != pid
