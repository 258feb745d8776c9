"""What the tests of uploads share: the server in this process, and Navidrome's temporary folder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from embeddings.uploads import names
from embeddings.uploads.server import UploadServer
from navembed_site.demo.encode import write_audio
from tests.audio_files import tone
from tests.batches.conftest import Music, music, no_pauses, pool, run_to_end
from tests.instances import checkpoints, embedder, embedder_process
from tests.milvus import lite_server, milvus
from tests.uploads.client import GoClient

__all__ = [
    "Music", "checkpoints", "embedder", "embedder_process", "lite_server", "milvus", "music", "no_pauses", "pool",
    "run_to_end",
]  # fmt: skip

RATE = 44_100


@pytest.fixture(autouse=True)
def names_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is copied after an answer, unless a test says so."""
    monkeypatch.setattr(names, "COPY_SECONDS", 0.0)


@contextmanager
def serving(path: Path) -> Iterator[UploadServer]:
    """A server in this process, which is stopped at the end."""
    server = UploadServer(path)
    server.listen()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.stop()


@pytest.fixture
def upload_server(short_tmp: Path, transactional_db: None) -> Iterator[UploadServer]:
    with serving(short_tmp / "uploads.sock") as server:
        yield server
    connections.close_all()


@pytest.fixture
def client(upload_server: UploadServer) -> GoClient:
    return GoClient(Path(str(upload_server.server_address)))


@pytest.fixture
def arrived(tmp_path: Path) -> Callable[..., Path]:
    """Write music into a folder as Navidrome's server makes them; another piece for every ``seed``."""

    def make(suffix: str = ".flac", *, seed: int = 0, seconds: float = 2.0, **options: Any) -> Path:
        folder = tmp_path / f"navidrome-upload-{len(list(tmp_path.iterdir()))}"
        folder.mkdir(mode=0o700)
        path = folder / f"navidrome-upload-1{suffix}"
        write_audio(path, tone(seconds, RATE, seed=seed), RATE, **options)
        path.chmod(0o600)
        return path

    return make
