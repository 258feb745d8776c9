"""The real embedder, asked over its socket, frozen and killed."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from embeddings.embedder.client import EmbedderClient, End, Heartbeat
from embeddings.embedder.work import Step, TrackOutcome, TrackRequest
from embeddings.encoders.registry import MODEL_KEYS, TEXT_MODEL
from embeddings.errors import EmbedderDied, EmbedderUnavailable, WeightsMissing
from navembed_site.errors import NavembedError
from navembed_site.process.locks import is_held
from navembed_site.process.unix_socket import accepts
from tests.embedder.conftest import asked
from tests.instances import EmbedderProcess


def eventually(condition: Callable[[], Any], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


def busy() -> bool:
    return bool(EmbedderClient().status()["busy"])


def much(songs: dict[str, Path]) -> list[TrackRequest]:
    """A chunk that takes long enough to be interrupted; of the three, this model is there first."""
    return [asked(songs["long.m4a"], "latent", id=str(n)) for n in range(30)]


def outcomes(requests: list[TrackRequest]) -> dict[str, TrackOutcome]:
    return {event.id: event for event in EmbedderClient().embed(requests) if isinstance(event, TrackOutcome)}


# What it answers


def test_the_socket_is_only_for_its_owner(embedder: EmbedderProcess) -> None:
    assert embedder.socket.stat().st_mode & 0o777 == 0o600


def test_status_names_the_process_and_its_models(embedder: EmbedderProcess) -> None:
    status = EmbedderClient().status()
    assert (status["pid"], status["busy"]) == (embedder.pid, False)
    assert {model["key"] for model in status["models"]} == {*MODEL_KEYS, TEXT_MODEL.key}
    assert {model["device"] for model in status["models"]} == {"cpu"}


def test_a_model_is_described_without_being_loaded(embedder: EmbedderProcess) -> None:
    EmbedderClient().unload("muq")
    assert EmbedderClient().describe("muq").dimension == 1_536
    assert not any(model["loaded"] for model in EmbedderClient().status()["models"] if model["key"] == "muq")


def test_a_model_is_unloaded_on_request(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    outcomes([asked(songs["short.wav"], "latent")])
    assert EmbedderClient().unload("latent")
    assert not EmbedderClient().unload("latent")


def test_a_chunk_streams_steps_outcomes_and_an_end(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    events = list(EmbedderClient().embed([asked(songs["short.wav"]), asked(songs["song.flac"])]))
    assert {event.model for event in events if isinstance(event, Step)} == set(MODEL_KEYS)
    vectors = {event.id: event.vectors for event in events if isinstance(event, TrackOutcome)}
    assert vectors.keys() == {"short.wav", "song.flac"}
    for of_track in vectors.values():
        for found in of_track.values():
            assert (found.vector**2).sum() == pytest.approx(1, abs=1e-5)
            assert found.precision == "float32"
    assert isinstance(events[-1], End)


def test_no_model_brings_packages_that_take_seconds(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    outcomes([asked(songs["short.wav"])])
    maps = Path(f"/proc/{embedder.pid}/maps").read_text()
    assert "sklearn" not in maps
    assert "scipy/optimize" not in maps


def test_names_that_are_no_unicode_come_through(
    embedder: EmbedderProcess, songs: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "caf\udce9 ♫.wav"
    path.symlink_to(songs["short.wav"])
    [outcome] = outcomes([asked(path, "muq", id="tr\udce9ck")]).values()
    assert (outcome.id, list(outcome.vectors)) == ("tr\udce9ck", ["muq"])


def test_an_empty_chunk_ends_at_once(embedder: EmbedderProcess) -> None:
    assert [type(event) for event in EmbedderClient().embed([])] == [End]


def test_missing_weights_name_the_command_that_gets_them(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    embedder.restart(NAVEMBED_MERT="nobody/has-this-model")
    for ask in (lambda: EmbedderClient().describe("mert"), lambda: outcomes([asked(songs["short.wav"])])):
        with pytest.raises(WeightsMissing, match="fetch_models"):
            ask()


# What is asked wrongly


@pytest.mark.parametrize(
    "ask",
    [
        lambda: EmbedderClient().describe("nothing"),
        lambda: EmbedderClient().unload("nothing"),
        lambda: outcomes([TrackRequest("x", "/x.mp3", ("muq", "nothing"))]),
        lambda: outcomes([TrackRequest("x", "/x.mp3", ())]),
    ],
)
def test_an_unknown_model_is_a_lasting_error(embedder: EmbedderProcess, ask: Callable[[], Any]) -> None:
    with pytest.raises(NavembedError, match=r"nothing|models \[\]") as refusal:
        ask()
    assert refusal.value.permanent


@pytest.fixture
def raw(embedder: EmbedderProcess) -> Callable[[bytes], dict[str, Any]]:
    """Send bytes, half-close, and return the JSON of the answer."""

    def send(data: bytes) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(embedder.socket))
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            answer: dict[str, Any] = json.loads(client.makefile("rb").read().split(b"\r\n\r\n")[-1])
            return answer

    return send


def post(body: bytes, length: int | None = None) -> bytes:
    return b"POST /embed HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body


BROKEN = {
    "no JSON": post(b"tracks, please"),
    "no object": post(b"[1, 2]"),
    "no list": post(b'{"tracks": 7}'),
    "no tracks": post(b'{"tracks": ["a", "b"]}'),
    "a field is absent": post(b'{"tracks": [{"id": "a", "path": "/a"}]}'),
    "models is a word": post(b'{"tracks": [{"id": "a", "path": "/a", "models": "muq", "checkpoint": ""}]}'),
    "too long": post(b" " * 20 * 2**20),
    "cut off": post(b'{"tracks": [', 1_000),
    "negative length": post(b"", -1),
    "no length": b"POST /embed HTTP/1.0\r\n\r\n",
    "no HTTP": b"HELO embedder\r\n\r\n",
    "no such method": b"BREW /embed HTTP/1.0\r\n\r\n",
    "no such path": b"GET /nothing HTTP/1.0\r\n\r\n",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_request_gets_an_error_and_nothing_else_happens(
    data: bytes, raw: Callable[[bytes], dict[str, Any]], embedder: EmbedderProcess
) -> None:
    answer = raw(data)
    assert answer["message"]
    assert answer["permanent"]
    assert EmbedderClient().status()["pid"] == embedder.pid
    assert "Traceback" not in embedder.log()


# Callers that go, chunks in line


def test_work_stops_when_its_caller_has_gone(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    chunk = EmbedderClient().embed(much(songs))
    while not isinstance(next(chunk), Step):
        pass
    chunk.close()
    assert outcomes([asked(songs["short.wav"], "latent")])["short.wav"].vectors
    assert "has gone" in embedder.log()
    eventually(lambda: not busy())


def test_two_chunks_are_served_one_after_the_other(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    order: list[str] = []
    first = EmbedderClient().embed([asked(songs["long.m4a"], "latent", id="first")])
    next(first)
    second = threading.Thread(target=lambda: order.extend(outcomes([asked(songs["short.wav"], "latent", id="second")])))
    second.start()
    order.extend(event.id for event in first if isinstance(event, TrackOutcome))
    second.join()
    assert order == ["first", "second"]


def test_a_request_that_somebody_waits_for_goes_between_the_batches_of_a_chunk(
    embedder: EmbedderProcess, songs: dict[str, Path]
) -> None:
    with closing(EmbedderClient().embed(much(songs))) as chunk:
        next(event for event in chunk if isinstance(event, Step))
        answer = list(EmbedderClient().embed([asked(songs["short.wav"], "latent")], now=True))
        assert [event.id for event in answer if isinstance(event, TrackOutcome)] == ["short.wav"]
        assert busy()  # the chunk has not ended meanwhile


def test_who_waits_in_line_hears_that_the_embedder_works(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    first = EmbedderClient().embed(much(songs))
    next(first)
    events = EmbedderClient().embed([asked(songs["short.wav"], "latent")])
    heard = next(events)
    assert isinstance(heard, Heartbeat)
    first.close()
    assert any(isinstance(event, TrackOutcome) for event in events)


# Its end


@contextmanager
def interrupted(songs: dict[str, Path], timeout: float = 30) -> Iterator[Iterator[Any]]:
    """A chunk in the middle of its work."""
    events = EmbedderClient(timeout=timeout).embed(much(songs))
    while not isinstance(next(events), Step):
        pass
    yield events


def test_its_death_is_noticed_at_once(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    with interrupted(songs, timeout=300) as events:
        decoders = psutil.Process(embedder.pid).children()
        embedder.kill()
        with pytest.raises(EmbedderDied):
            list(events)
    eventually(lambda: not any(decoder.is_running() for decoder in decoders))
    with pytest.raises(EmbedderUnavailable, match="no embedder listens"):
        EmbedderClient().status()


def test_a_frozen_embedder_counts_as_dead(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    with interrupted(songs, timeout=10) as events:
        embedder.kill(signal.SIGSTOP)
        with pytest.raises(EmbedderDied, match="timed out"):
            list(events)
        with pytest.raises(EmbedderUnavailable, match="timed out"):
            EmbedderClient(timeout=1).status()


def test_it_ends_when_asked_and_leaves_nothing(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    outcomes([asked(songs["short.wav"], "latent")])
    decoders = psutil.Process(embedder.pid).children()
    assert decoders
    assert embedder.kill(signal.SIGTERM) == 0
    assert not any(decoder.is_running() for decoder in decoders)
    assert not embedder.socket.exists()
    assert not is_held("embedder-0")
    assert "Traceback" not in embedder.log()


def test_a_chunk_that_its_end_interrupts_has_no_failed_tracks(
    embedder: EmbedderProcess, songs: dict[str, Path]
) -> None:
    with interrupted(songs) as events:
        assert embedder.kill(signal.SIGTERM) == 0
        seen: list[Any] = []
        with pytest.raises(EmbedderUnavailable, match="shutting down") as end:
            seen.extend(events)
    assert not isinstance(end.value, EmbedderDied)
    assert not any(event.failures for event in seen if isinstance(event, TrackOutcome))


def test_a_second_one_waits_to_take_over(embedder: EmbedderProcess) -> None:
    heir = EmbedderProcess({})
    heir.restart(wait=False)
    eventually(lambda: "waiting to take over" in heir.log())
    assert EmbedderClient().status()["pid"] == embedder.pid
    embedder.kill()
    eventually(lambda: accepts(embedder.socket))
    assert EmbedderClient().status()["pid"] == heir.pid
    heir.kill()
