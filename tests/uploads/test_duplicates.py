"""What the library, or another upload, has already is told; only the same recording keeps a file out."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from batches.requests import JobRequest
from batches.services import start_job
from embeddings.audio.pool import DecodePool
from embeddings.embedder.client import EmbedderClient
from embeddings.errors import DecoderDied
from embeddings.models import Embedding, UploadEmbedding
from embeddings.uploads import duplicates
from embeddings.uploads.duplicates import RECENT
from navembed_site.demo.encode import write_audio
from navembed_site.process.locks import hold
from tests.batches.conftest import Music, RunToEnd
from tests.uploads import pairs
from tests.uploads.client import GoClient
from tests.uploads.sheets import sheet

pytestmark = pytest.mark.usefixtures("embedder", "milvus")
Write = Callable[..., Path]
WISH: dict[str, Any] = {"similaritySearchEnabled": "true", "dedupThreshold": 0.0}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a piece of music into a folder of its own."""

    def make(name: str, sound: pairs.Sound) -> Path:
        folder = tmp_path / f"navidrome-upload-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        write_audio(folder / name, sound, pairs.RATE)
        return folder / name

    return make


@pytest.fixture
def library(music: Music, write: Write, run_to_end: RunToEnd) -> Music:
    """A library of one piece, embedded."""
    shutil.copy(write("a.flac", pairs.piece("techno", 0)), music.root / "known.flac")
    music.add_row("known.flac", title="Known", artist="Somebody", duration=pairs.SECONDS)
    run_to_end(start_job(JobRequest(["muq"])))
    return music


def test_the_same_recording_in_the_library_is_a_duplicate(client: GoClient, library: Music, write: Write) -> None:
    path = write("upload.mp3", pairs.shifted(pairs.piece("techno", 0), -0.7, 0))
    answer = client.upload(path, settings=WISH)
    assert (answer["allDuplicates"], answer["duplicates"]) == (True, ["upload.mp3"])
    found = answer["matches"][0]
    assert (found["confirmed"], found["track_id"], found["title"]) == (True, "known", "Known")


def test_what_only_sounds_like_it_is_told_apart(client: GoClient, library: Music, write: Write) -> None:
    answer = client.upload(write("upload.mp3", pairs.piece("techno", 1)), settings=WISH)
    assert (answer["allDuplicates"], answer["duplicates"]) == (False, [])
    assert [match["confirmed"] for match in answer["matches"]] == [False]


def test_nothing_is_compared_unless_it_is_wished_for(client: GoClient, library: Music, write: Write) -> None:
    answer = client.upload(write("upload.flac", pairs.piece("techno", 0)))
    assert answer == {"status": "ok", "duplicates": [], "renamedFile": "", "allDuplicates": False}


def test_two_uploads_of_the_same_are_duplicates_but_not_one_that_comes_again(client: GoClient, write: Write) -> None:
    first = write("first.flac", pairs.piece("piano", 0))
    assert not client.upload(first, settings=WISH)["allDuplicates"]
    assert not client.upload(first, settings=WISH)["allDuplicates"]
    shutil.copy(first, first.with_name("second.flac"))
    again = client.upload(first.with_name("second.flac"), settings=WISH)
    assert (again["allDuplicates"], again["matches"][0]["upload"]) == (True, "first.flac")
    other = client.upload(write("third.mp3", pairs.piece("piano", 0)), settings=WISH)
    assert (other["allDuplicates"], UploadEmbedding.objects.count()) == (True, 2)
    assert not client.upload(first, settings=WISH)["allDuplicates"]  # what was kept out keeps nothing out
    UploadEmbedding.objects.update(accepted_at=timezone.now() - RECENT)
    assert not client.upload(first.with_name("second.flac"), settings=WISH)["allDuplicates"]


def test_of_two_that_come_together_one_is_kept(client: GoClient, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    together, near_tracks = threading.Barrier(2, timeout=60), duplicates._near_tracks
    monkeypatch.setattr(duplicates, "_near_tracks", lambda *given: (together.wait(), near_tracks(*given))[1])
    paths = [write(name, pairs.piece("piano", 0)) for name in ("one.flac", "other.mp3")]
    with ThreadPoolExecutor() as threads:
        answers = list(threads.map(lambda path: client.upload(path, settings=WISH), paths))
    assert sorted(answer["allDuplicates"] for answer in answers) == [False, True]


def test_of_two_that_come_by_two_processes_one_is_kept(
    client: GoClient, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.upload(write("first.flac", pairs.piece("piano", 0)), settings=WISH)
    UploadEmbedding.objects.update(accepted_at=None)
    compared, near_tracks = threading.Event(), duplicates._near_tracks
    monkeypatch.setattr(duplicates, "_near_tracks", lambda *given: (near_tracks(*given), compared.set())[0])
    other = write("other.mp3", pairs.piece("piano", 0))
    with ThreadPoolExecutor() as threads, hold(duplicates.DECIDING):  # as the other process does
        answer = threads.submit(client.upload, other, settings=WISH)
        assert compared.wait(60)
        assert not wait([answer], 0.5).done
        UploadEmbedding.objects.filter(name="first.flac").update(accepted_at=timezone.now())
    assert answer.result()["allDuplicates"]


def test_audio_without_a_hash_is_compared_with_nothing(
    client: GoClient, library: Music, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> str:
        raise DecoderDied("it was killed")

    Embedding.objects.update(audio_hash="")
    monkeypatch.setattr(DecodePool, "audio_hash", broken)
    answer = client.upload(write("upload.flac", pairs.piece("techno", 1)), settings=WISH)
    assert (answer["allDuplicates"], "was killed" in answer["warning"]) == (False, True)


@pytest.fixture
def album(write: Write) -> Callable[..., tuple[Path, str]]:
    """Write pieces in a row, with a sheet; returns both paths."""

    def make(*sounds: pairs.Sound) -> tuple[Path, str]:
        path = write("album.flac", pairs.np.concatenate(sounds, axis=1))
        tracks = [(f"TRACK {n:02} AUDIO", f"INDEX 01 00:{12 * n - 12}:00") for n in range(1, len(sounds) + 1)]
        path.with_suffix(".cue").write_bytes(sheet('FILE "x" WAVE', *sum(tracks, ())))
        return path, str(path.with_suffix(".cue"))

    return make


def test_of_an_album_what_is_known_is_left_out(client: GoClient, library: Music, album: Any) -> None:
    path, cue_file = album(pairs.piece("techno", 0), pairs.piece("piano", 3))
    answer = client.upload(path, cue_file=cue_file, settings=WISH)
    assert [each["index"] for each in answer["splitFiles"]] == [2]
    assert (answer["allDuplicates"], len(answer["duplicates"])) == (False, 1)
    assert sorted(each.name for each in path.parent.iterdir()) == ["album-track-002.flac", "album.cue", "album.flac"]


def test_an_album_that_comes_again_keeps_one_of_what_it_has_twice(client: GoClient, album: Any) -> None:
    sound = pairs.piece("piano", 3)
    path, cue_file = album(sound, sound * pairs.np.float32(0.5))
    for _ in range(2):
        answer = client.upload(path, cue_file=cue_file, settings=WISH)
        assert [each["index"] for each in answer["splitFiles"]] == [1]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often a file is given to a decoder, here or in the embedder."""
    counts: Counter[str] = Counter()

    def count(owner: type, method: str) -> None:
        real = getattr(owner, method)

        def counted(self: Any, given: Any, *rest: Any, **fields: Any) -> Any:
            counts.update([Path(given if isinstance(given, str) else given[0].path).name])
            return real(self, given, *rest, **fields)

        monkeypatch.setattr(owner, method, counted)

    count(DecodePool, "decode")
    count(DecodePool, "split")
    count(EmbedderClient, "embed")
    return counts


def test_one_decoding_gives_the_vector_and_the_acoustic_fingerprint(
    client: GoClient, library: Music, write: Write, album: Any, decoded: Counter[str]
) -> None:
    path, cue_file = album(pairs.piece("techno", 0), pairs.piece("piano", 3))
    client.upload(path, cue_file=cue_file, settings=WISH)
    client.upload(write("song.mp3", pairs.piece("piano", 4)), settings=WISH)
    del decoded["known.flac"]  # with which they are compared
    assert decoded == {"album.flac": 1, "album-track-001.flac": 1, "album-track-002.flac": 1, "song.mp3": 1}
