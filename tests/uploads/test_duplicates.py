"""What the library, or another upload, has already is told; only the same recording keeps a file out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batches.requests import JobRequest
from batches.services import start_job
from embeddings.models import UploadEmbedding
from navembed_site.demo.encode import write_audio
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


def test_of_an_album_what_is_known_is_left_out(client: GoClient, library: Music, write: Write) -> None:
    known, new = pairs.piece("techno", 0), pairs.piece("piano", 3)
    path = write("album.flac", pairs.np.concatenate([known, new], axis=1))
    cue_file = path.with_suffix(".cue")
    cue_file.write_bytes(
        sheet('FILE "x" WAVE', "TRACK 01 AUDIO", "INDEX 01 00:00:00", "TRACK 02 AUDIO", "INDEX 01 00:12:00")
    )
    answer = client.upload(path, cue_file=str(cue_file), settings=WISH)
    assert [each["index"] for each in answer["splitFiles"]] == [2]
    assert (answer["allDuplicates"], len(answer["duplicates"])) == (False, 1)
