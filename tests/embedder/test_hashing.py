"""Files hashed by the real embedder, which neither decodes nor loads a model for it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from embeddings.audio.decode import audio_hash
from embeddings.audio.pool import DecodePool
from embeddings.embedder.client import EmbedderClient, Heartbeat
from embeddings.embedder.hashing import hash_files
from embeddings.embedder.work import FileHash, Step
from embeddings.errors import AudioError, EmbedderDied, EmbedderUnavailable
from navembed_site.errors import NavembedError
from tests.embedder.conftest import asked
from tests.instances import EmbedderProcess


def hashes(paths: list[Path]) -> dict[str, FileHash]:
    events = EmbedderClient().hash([str(path) for path in paths])
    return {event.path: event for event in events if isinstance(event, FileHash)}


def test_every_file_gets_the_hash_of_its_audio(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    found = hashes(list(songs.values()))
    assert {path: answer.audio_hash for path, answer in found.items()} == {
        str(path): audio_hash(str(path)) for path in songs.values()
    }


def test_no_model_is_loaded_for_a_hash(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    embedder.restart()
    hashes([songs["short.wav"]])
    assert not any(model["loaded"] for model in EmbedderClient().status()["models"])


def test_a_missing_and_a_damaged_file_are_answers(
    embedder: EmbedderProcess, songs: dict[str, Path], tmp_path: Path
) -> None:
    paths = [tmp_path / "gone.mp3", tmp_path / "text.flac", songs["short.wav"]]
    paths[1].write_text("no audio at all")
    found = [hashes(paths)[str(path)] for path in paths]
    assert [answer.failure and answer.failure.error_class for answer in found] == [
        "AudioFileMissing",
        "AudioError",
        None,
    ]
    assert [bool(answer.audio_hash) for answer in found] == [False, False, True]


def test_names_that_are_no_unicode_are_hashed(
    embedder: EmbedderProcess, songs: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "caf\udce9 ♫.wav"
    path.symlink_to(songs["short.wav"])
    assert hashes([path])[str(path)].audio_hash


def test_nothing_to_hash_ends_at_once(embedder: EmbedderProcess) -> None:
    assert hashes([]) == {}


@pytest.mark.parametrize("body", [{"paths": 7}, {"paths": [7]}, {}])
def test_what_is_no_list_of_paths_is_a_lasting_error(embedder: EmbedderProcess, body: dict[str, object]) -> None:
    ask = EmbedderClient()._answer("POST", "/hash", body, 30)
    with pytest.raises(NavembedError, match="not a list of paths") as refusal, ask:
        pass
    assert refusal.value.permanent


def test_hashes_come_while_a_chunk_is_worked_on(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    chunk = EmbedderClient().embed([asked(songs["short.wav"], "latent", id=str(n)) for n in range(2000)])
    assert any(isinstance(event, Step) for event in chunk)
    assert hashes([songs["short.wav"]])
    assert EmbedderClient().status()["busy"]
    chunk.close()


def test_the_embedder_beats_while_it_hashes(embedder: EmbedderProcess, songs: dict[str, Path], tmp_path: Path) -> None:
    events = EmbedderClient().hash([str(songs["long.m4a"])] * 5000)
    assert any(isinstance(event, Heartbeat) for event in events)
    events.close()


def test_an_embedder_that_dies_meanwhile_is_an_error(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    events = EmbedderClient().hash([str(songs["long.m4a"])] * 5000)
    next(events)
    embedder.kill()
    with pytest.raises(EmbedderDied):
        list(events)


def test_one_that_is_stopped_says_so(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    events = EmbedderClient().hash([str(songs["long.m4a"])] * 5000)
    next(events)
    embedder.kill(signal.SIGTERM)
    with pytest.raises(EmbedderUnavailable):
        list(events)


# In this process


@pytest.fixture
def long_file(tmp_path: Path) -> Path:
    """One that takes seconds to read through."""
    path = tmp_path / "long.wav"
    head = (
        b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\0\0\0\x01\0\x02\0\x44\xac\0\0\x10\xb1\x02\0\x04\0\x10\0data\xff\xff\xff\x7f"
    )
    with path.open("wb") as file:
        file.write(head)
        file.truncate(2**31)
    return path


def test_closing_ends_a_file_in_the_middle(long_file: Path, songs: dict[str, Path]) -> None:
    pool = DecodePool(2)
    answers = hash_files(pool, [str(long_file), str(songs["short.wav"]), str(long_file)], lambda: False)
    assert next(answers).path == str(songs["short.wav"])
    answers.close()
    assert len(pool.pids) == 2  # none had to be killed
    assert pool.audio_hash(str(songs["short.wav"]))
    pool.close()


def test_a_hash_that_nobody_wants_is_a_passing_error(long_file: Path) -> None:
    pool = DecodePool(1)
    with pytest.raises(AudioError, match="nobody waits") as refusal:
        pool.audio_hash(str(long_file), should_stop=lambda: True)
    assert not refusal.value.permanent
    pool.close()
