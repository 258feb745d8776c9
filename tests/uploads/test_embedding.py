"""An upload is embedded when it arrives, and costs no device time again when it lands in the library."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import mutagen
import pytest
from django.utils import timezone

from batches.requests import JobRequest
from batches.services import start_job
from embeddings.embedder import now
from embeddings.embedder.work import TrackRequest
from embeddings.errors import DeviceOutOfMemory, concerning
from embeddings.models import Embedding, EmbeddingSpace, Upload, UploadEmbedding
from embeddings.uploads import embedding
from embeddings.uploads.kept import forget_old
from embeddings.uploads.request import wishes
from tests.batches.conftest import Music, RunToEnd
from tests.instances import EmbedderProcess
from tests.uploads.client import GoClient

ACCEPTED = {"status": "ok", "duplicates": [], "renamedFile": "", "allDuplicates": False}
Arrived = Callable[..., Path]


def test_an_upload_is_embedded(client: GoClient, embedder: EmbedderProcess, arrived: Arrived) -> None:
    assert client.upload(arrived(), name="song.flac") == ACCEPTED
    kept = UploadEmbedding.objects.get()
    assert (kept.model, kept.name, kept.audio_seconds) == ("muq", "song.flac", 2.0)


def test_a_name_may_be_empty_or_strange(client: GoClient, embedder: EmbedderProcess, arrived: Arrived) -> None:
    path = arrived()
    for name in ("", "no suffix", "not.audio", "a/../b\x00\n.mp3", "ü" * 9_999):
        assert client.upload(path, name=name) == ACCEPTED


def test_music_that_no_model_takes_is_accepted(client: GoClient, embedder: EmbedderProcess, arrived: Arrived) -> None:
    answer = client.upload(arrived(seconds=0.5))
    assert answer["status"] == "ok"
    assert "only 0.50 s of audio" in answer["warning"]


def test_wishes_may_come_as_texts_and_what_makes_no_sense_is_left_out() -> None:
    given = {"renameEnabled": "Yes", "useMetadata": "off", "dedupThreshold": "7", "reasoningLevel": "Disabled"}
    found = wishes({"settings": given})
    assert (found.rename, found.use_metadata, found.threshold, found.reasoning) == (True, False, 1.0, "none")
    strange = {"renameEnabled": [], "dedupThreshold": float("nan"), "reasoningLevel": 3, "openAiModel": None}
    assert wishes({"settings": strange}) == wishes({}) == wishes({"settings": "none"})


@pytest.mark.usefixtures("milvus", "embedder")
def test_a_landed_upload_is_not_computed_again(
    client: GoClient, music: Music, arrived: Arrived, run_to_end: RunToEnd
) -> None:
    """Upload → the file lands, with tags of others' → Navidrome's row → job."""
    path = arrived(seed=40)
    assert client.upload(path) == ACCEPTED
    vector = bytes(UploadEmbedding.objects.get().vector)
    (music.root / "Artist").mkdir()
    shutil.copy(path, music.root / "Artist" / "song.flac")
    tagged = mutagen.File(music.root / "Artist" / "song.flac")
    tagged["title"] = "Another title"
    tagged.save()
    music.add_row("Artist/song.flac", id="landed")
    job = run_to_end(start_job(JobRequest(["muq"])))
    assert job.status == "completed"
    assert list(job.results.values_list("recognised", flat=True)) == [True]
    assert bytes(Embedding.objects.get(track_id="landed").vector) == vector
    assert not UploadEmbedding.objects.exists()


def test_what_the_library_has_already_is_not_computed_either(
    client: GoClient, embedder: EmbedderProcess, arrived: Arrived
) -> None:
    path = arrived()
    client.upload(path)
    first = UploadEmbedding.objects.get()
    space = EmbeddingSpace.objects.create(
        model="muq", fingerprint=first.fingerprint, dimension=1536, recipe={}, status="live"
    )
    Embedding.objects.create(
        space=space, track_id="a", windows=1, audio_seconds=2, size=1, audio_hash=first.audio_hash, vector=b"v"
    )
    first.delete()
    client.upload(path)
    assert bytes(UploadEmbedding.objects.get().vector) == b"v"


def test_uploads_are_forgotten_after_a_week(client: GoClient, embedder: EmbedderProcess, arrived: Arrived) -> None:
    client.upload(arrived())
    assert forget_old() == 0
    UploadEmbedding.objects.update(created_at=timezone.now() - timedelta(days=8))
    Upload.objects.update(received_at=timezone.now() - timedelta(days=31))
    assert forget_old() == 2


# An embedder that is away; tests/uploads/test_hostile.py waits for one that comes back


def test_an_embedder_that_stays_away_is_told_as_a_warning(
    client: GoClient, embedder: EmbedderProcess, arrived: Arrived, settings: Any
) -> None:
    settings.UPLOAD_WAIT_SECONDS = 0.2
    embedder.kill()
    answer = client.upload(arrived(), name="song.flac")
    assert answer["status"] == "ok"
    assert answer["warning"].startswith("song.flac was not embedded (no embedder listens")


def test_a_frozen_embedder_is_waited_for_no_longer_than_it_is_said(
    client: GoClient, embedder: EmbedderProcess, arrived: Arrived, settings: Any
) -> None:
    settings.UPLOAD_WAIT_SECONDS = 0.2
    embedder.kill(signal.SIGSTOP)
    assert "was not embedded" in client.upload(arrived())["warning"]


def test_a_client_that_leaves_is_waited_for_no_longer(
    client: GoClient, embedder: EmbedderProcess, arrived: Arrived
) -> None:
    embedder.kill()
    connection = client.connect()
    connection.sendall(b'{"music_file": "%s"}\n' % str(arrived()).encode())
    connection.close()
    for _ in range(200):
        if Upload.objects.filter(accepted=True).exists():
            break
        threading.Event().wait(0.05)
    assert "was not embedded" in Upload.objects.get().answer["warning"]


def test_what_one_model_has_heard_is_not_heard_again_when_the_next_cannot_be_loaded(
    client: GoClient, embedder: EmbedderProcess, arrived: Arrived, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.UPLOAD_MODELS = ["muq", "mert"]
    asked = []

    def embed_now(request: TrackRequest, fingerprints: Any, look: Any) -> Any:
        asked.append(request.models)
        heard = now.embed_now(replace(request, models=("muq",)), {"muq": fingerprints["muq"]}, look)
        if "mert" in fingerprints:
            with concerning("mert"):
                raise DeviceOutOfMemory("mert does not fit")
        return heard

    monkeypatch.setattr(embedding, "embed_now", embed_now)
    assert "mert does not fit" in client.upload(arrived())["warning"]
    assert (asked, UploadEmbedding.objects.get().model) == ([("muq", "mert")], "muq")


def test_missing_weights_are_no_error(
    client: GoClient, embedder: EmbedderProcess, arrived: Arrived, tmp_path: Path
) -> None:
    embedder.restart(NAVEMBED_MUQ=str(tmp_path / "nothing"))
    answer = client.upload(arrived())
    assert answer["status"] == "ok"
    assert "was not embedded" in answer["warning"]
