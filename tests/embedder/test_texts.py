"""Text queries in the embedder: beside a job, loaded alone, and never of other weights than those of the music."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from embeddings.embedder.client import EmbedderClient
from embeddings.embedder.model_manager import ModelManager
from embeddings.embedder.priority_lock import PriorityLock
from embeddings.embedder.texts import Texts
from embeddings.embedder.work import Step, TrackRequest
from embeddings.encoders.muq_text import MuqText
from embeddings.encoders.registry import MODEL_KEYS, TEXT_MODEL
from embeddings.errors import EmbedderUnavailable, FingerprintChanged, TextNotReady, WeightsUnusable
from navembed_site.errors import NavembedError
from tests.embedder.test_embedder import busy, much, outcomes
from tests.instances import EmbedderProcess

WAIT = 120.0  # the first text of a process imports PyTorch


def loaded() -> set[str]:
    return {model["key"] for model in EmbedderClient().status()["models"] if model["loaded"]}


# The process


def test_a_text_loads_the_text_model_alone(embedder: EmbedderProcess) -> None:
    for key in (*MODEL_KEYS, TEXT_MODEL.key):
        EmbedderClient().unload(key)
    vector = EmbedderClient().embed_text("calm piano", wait_seconds=WAIT)
    assert (vector.shape, loaded()) == ((512,), {TEXT_MODEL.key})
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_who_cannot_wait_is_told_and_loading_goes_on(embedder: EmbedderProcess) -> None:
    EmbedderClient().unload(TEXT_MODEL.key)
    with pytest.raises(TextNotReady, match="being loaded, ask again"):
        EmbedderClient().embed_text("calm piano", wait_seconds=0)
    deadline = time.monotonic() + WAIT
    while TEXT_MODEL.key not in loaded():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert EmbedderClient().embed_text("calm piano", wait_seconds=20).any()


def test_a_text_is_answered_while_a_chunk_is_embedded(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    alone = EmbedderClient().embed_text("calm piano", wait_seconds=WAIT)
    with closing(EmbedderClient().embed(much(songs))) as chunk:
        next(event for event in chunk if isinstance(event, Step))
        np.testing.assert_allclose(EmbedderClient().embed_text("calm piano", wait_seconds=20), alone, atol=1e-6)
        assert busy()  # the chunk has not ended meanwhile


def test_texts_of_other_weights_than_the_musics_are_refused(embedder: EmbedderProcess) -> None:
    weights = EmbedderClient().describe("muq").fingerprint["weights"]
    assert EmbedderClient().embed_text("calm piano", weights, wait_seconds=WAIT).any()
    with pytest.raises(FingerprintChanged, match="other weights than the vectors that search uses"):
        EmbedderClient().embed_text("calm piano", ["0" * 64], wait_seconds=WAIT)


def test_no_track_is_embedded_with_the_text_model(embedder: EmbedderProcess) -> None:
    with pytest.raises(NavembedError, match="with models") as refusal:
        outcomes([TrackRequest("x", "/x.mp3", (TEXT_MODEL.key,))])
    assert refusal.value.permanent


@pytest.mark.parametrize("seconds", [-1, float("nan"), 1e9])
def test_a_wait_must_be_one(seconds: float, embedder: EmbedderProcess) -> None:
    with pytest.raises(NavembedError, match="seconds to wait"):
        EmbedderClient(timeout=5)._json("POST", "/text", {"prompt": "a", "weights": None, "wait_seconds": seconds})


def test_its_status_says_what_keeps_texts_from_being_embedded(embedder: EmbedderProcess) -> None:
    assert EmbedderClient().status()["text_problem"] == ""


# In this process


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def manager(checkpoints: dict[str, Path], clock: Clock) -> ModelManager:
    model = MuqText(str(checkpoints["muq"]), "cpu")
    return ModelManager({model.key: model}, memory_bytes=1e12, idle_seconds=100, clock=clock)


@pytest.fixture
def device_lock() -> PriorityLock:
    return PriorityLock()


@pytest.fixture
def texts(manager: ModelManager, device_lock: PriorityLock) -> Iterator[Texts]:
    texts = Texts(manager, device_lock.interactive)
    yield texts
    texts.close()


def test_an_idle_text_model_is_unloaded(texts: Texts, manager: ModelManager, clock: Clock) -> None:
    texts.embed("calm piano", None, WAIT)
    clock.now = 99
    assert manager.unload_idle() == []
    clock.now = 100
    assert manager.unload_idle() == ["muq-text"]
    assert texts.embed("calm piano", None, WAIT).any()


@pytest.mark.parametrize(("hours", "is_loaded"), [(0, True), (2, False)])
def test_a_start_loads_the_model_when_a_text_was_asked_for_lately(
    hours: int, is_loaded: bool, manager: ModelManager, device_lock: PriorityLock, tmp_path: Path
) -> None:
    def started() -> bool:
        texts = Texts(manager, device_lock.interactive, tmp_path / "spool" / "text-used")
        texts._thread.submit(lambda: None).result(WAIT)  # what was begun has ended
        texts.close()
        return manager.unload("muq-text")

    with closing(Texts(manager, device_lock.interactive, tmp_path / "spool" / "text-used")) as texts:
        texts.embed("calm piano", None, WAIT)
    assert manager.unload("muq-text")
    asked = time.time() - 3_600 * hours
    os.utime(tmp_path / "spool" / "text-used", (asked, asked))
    assert started() == is_loaded
    assert not started()  # if loading ended the former one, it shall not go on like that


def test_on_a_cpu_a_text_does_not_wait_for_the_batch(texts: Texts, device_lock: PriorityLock) -> None:
    with device_lock.job():
        assert texts.embed("calm piano", None, WAIT).any()


def test_on_a_gpu_a_text_takes_the_turn_before_the_next_batch(
    texts: Texts, device_lock: PriorityLock, manager: ModelManager
) -> None:
    texts.embed("calm piano", None, WAIT)
    manager.model("muq-text").device = "cuda"  # in name: what counts is whose turn it is
    with device_lock.job(), pytest.raises(TextNotReady, match="the device is busy"):
        texts.embed("calm piano", None, 0.2)
    assert texts.embed("calm piano", None, WAIT).any()


def test_replaced_files_are_loaded_anew(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    from navembed_site.demo.checkpoints import make_tiny_checkpoint

    make_tiny_checkpoint("muq", tmp_path)
    model = MuqText(str(tmp_path), "cpu")
    texts = Texts(ModelManager({model.key: model}, memory_bytes=1e12), PriorityLock().interactive)
    before = texts.embed("calm piano", None, WAIT)
    make_tiny_checkpoint("muq", tmp_path, seed=1)
    assert before @ texts.embed("calm piano", None, WAIT) < 0.9999
    texts.close()


def test_a_text_model_that_makes_no_numbers_makes_no_vector(texts: Texts, manager: ModelManager) -> None:
    texts.embed("calm piano", None, WAIT)
    model = manager.text_model("muq-text")
    model._network["text"].model.embeddings.word_embeddings.weight.fill_(float("nan"))
    with pytest.raises(WeightsUnusable, match="damaged"):
        texts.embed("calm piano", None, WAIT)


def test_missing_weights_are_a_problem_that_says_what_to_run() -> None:
    model = MuqText("nobody/has-this-model", "cpu")
    texts = Texts(ModelManager({model.key: model}, memory_bytes=1e12), PriorityLock().interactive)
    assert "`manage.py fetch_models` downloads them" in texts.problem()
    texts.close()


def test_its_end_is_told(texts: Texts) -> None:
    texts.close()
    with pytest.raises(EmbedderUnavailable, match="shutting down"):
        texts.embed("calm piano", None, WAIT)
