"""Tracks in, vectors out: real files, decoders and tiny encoders."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.audio.decode import decode
from embeddings.audio.pool import AudioBlock, DecodePool
from embeddings.audio.summary import AudioSummary
from embeddings.embedder.model_manager import ModelManager
from embeddings.embedder.pipeline import BATCHES_AHEAD, Pipeline
from embeddings.embedder.row_spool import RowStore
from embeddings.embedder.work import Step, TrackOutcome, TrackRequest
from embeddings.encoders.base import AudioFormat, Item, Pooled
from embeddings.encoders.gathering import Items
from embeddings.encoders.mert import MertSegmenter
from embeddings.encoders.registry import MODEL_KEYS, encoder_class
from embeddings.errors import EmbedderDied, WeightsMissing
from navembed_site.demo.encode import write_audio
from tests.audio_files import DAMAGED, tone
from tests.embedder.conftest import CountingManager, asked
from tests.encoders.reference import reference_embedding

Events = Iterable[TrackOutcome | Step]


def outcomes_of(events: Events) -> dict[str, TrackOutcome]:
    outcomes = [event for event in events if isinstance(event, TrackOutcome)]
    assert len({outcome.id for outcome in outcomes}) == len(outcomes)
    return {outcome.id: outcome for outcome in outcomes}


def vectors_of(events: Events) -> dict[tuple[str, str], NDArray[np.float32]]:
    outcomes = [event for event in events if isinstance(event, TrackOutcome)]
    return {(outcome.id, model): found.vector for outcome in outcomes for model, found in outcome.vectors.items()}


def threads_of_decoding() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode-")]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def reference_of(path: Path, model: str, checkpoints: dict[str, Path]) -> NDArray[np.float64]:
    wanted = encoder_class(model).audio
    blocks = [part[wanted] for part in decode(str(path), [wanted]) if isinstance(part, dict)]
    return reference_embedding(model, checkpoints[model], np.concatenate(blocks, axis=1))


def test_vectors_of_many_formats_and_lengths_agree_with_the_reference(
    pipeline: Pipeline, songs: dict[str, Path], checkpoints: dict[str, Path]
) -> None:
    names = ("short.wav", "song.flac", "window.mp3")
    requests = [asked(songs["long.m4a"], "muq"), *(asked(songs[name]) for name in names)]
    vectors = vectors_of(pipeline.embed(requests))
    assert len(vectors) == 1 + 3 * len(names)
    for (name, model), vector in vectors.items():
        assert vector @ reference_of(songs[name], model, checkpoints) >= 0.99999, (name, model)


def test_every_batch_is_a_step(pipeline: Pipeline, manager: CountingManager, songs: dict[str, Path]) -> None:
    events = list(pipeline.embed([asked(songs["window.mp3"])]))
    steps = [event for event in events if isinstance(event, Step)]
    assert {step.track_id for step in steps} == {"window.mp3"}
    assert {step.model: step.items for step in reversed(steps)}.keys() == set(MODEL_KEYS)
    assert sum(step.items for step in steps) == sum(sum(sizes) for sizes in manager.batches.values())


def test_order_and_batch_sizes_do_not_matter_and_as_for_a_gpu_the_next_batch_is_made_ahead(
    pipeline: Pipeline, manager: CountingManager, songs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [asked(songs[name], "mert", "latent") for name in ("short.wav", "song.flac", "window.mp3")]
    vectors = vectors_of(pipeline.embed(requests))
    for slot in manager._slots.values():
        slot.batch = 8
    monkeypatch.setitem(BATCHES_AHEAD, "cpu", 1)
    vectors_ahead = vectors_of(pipeline.embed(requests[::-1]))
    assert vectors_ahead.keys() == vectors.keys()
    for key, vector in vectors_ahead.items():
        assert vector @ vectors[key] >= 0.999999


def test_a_damaged_file_fails_alone_with_its_reason(pipeline: Pipeline, songs: dict[str, Path], tmp_path: Path) -> None:
    damaged = DAMAGED["random bytes"].make(tmp_path)
    outcomes = outcomes_of(pipeline.embed([asked(damaged), asked(songs["song.flac"])]))
    assert outcomes["song.flac"].vectors.keys() == set(MODEL_KEYS)
    assert not outcomes[damaged.name].vectors
    assert outcomes[damaged.name].failures.keys() == set(MODEL_KEYS)
    for failure in outcomes[damaged.name].failures.values():
        assert "mostly damaged" in failure.message
        assert (failure.stage, failure.permanent) == ("decode", True)


def test_a_missing_file_may_come_back(pipeline: Pipeline, tmp_path: Path) -> None:
    outcome = outcomes_of(pipeline.embed([asked(tmp_path / "gone.mp3", "muq")]))["gone.mp3"]
    assert outcome.failures["muq"].error_class == "AudioFileMissing"
    assert not outcome.failures["muq"].permanent


def test_a_killed_decoder_fails_only_its_track(
    pipeline: Pipeline, pool: DecodePool, songs: dict[str, Path], tmp_path: Path
) -> None:
    fifo = tmp_path / "hangs.mp3"
    fifo.symlink_to(songs["long.m4a"])
    events = pipeline.embed([asked(fifo, "muq"), asked(songs["short.wav"], "muq")])
    first = next(events)
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    outcomes = outcomes_of([first, *events, *pipeline.embed([asked(songs["song.flac"], "muq")])])
    assert outcomes["hangs.mp3"].failures["muq"].error_class == "DecoderDied"
    assert outcomes["song.flac"].vectors


def test_closing_it_early_ends_its_threads_and_frees_decoders_and_files(
    pipeline: Pipeline, pool: DecodePool, songs: dict[str, Path]
) -> None:
    list(pipeline.embed([asked(songs["song.flac"], "muq", id=str(n)) for n in range(2)]))
    before, pids = descriptors(), pool.pids
    events = pipeline.embed([asked(songs["long.m4a"], id=str(n), spool_name=f"c{n}") for n in range(4)])
    next(events)
    events.close()
    assert not threads_of_decoding()
    assert descriptors() == before
    assert outcomes_of(pipeline.embed([asked(songs["song.flac"], "muq")]))
    assert pool.pids == pids


def test_it_ends_before_the_next_batch_when_nobody_wants_it(pipeline: Pipeline, songs: dict[str, Path]) -> None:
    events: list[TrackOutcome | Step] = []
    for event in pipeline.embed([asked(songs["long.m4a"])], should_stop=lambda: bool(events)):
        events.append(event)
    assert len(events) == 1


def test_models_that_do_not_fit_together_take_turns(
    make_manager: Callable[..., CountingManager], pool: DecodePool, songs: dict[str, Path], tmp_path: Path
) -> None:
    manager = make_manager(memory_bytes=1)
    pipeline = Pipeline(manager, pool, tmp_path)
    requests = [asked(songs["short.wav"]), asked(songs["song.flac"], "muq", "latent")]
    events = list(pipeline.embed(requests))
    assert [model for model, _ in groupby(event.model for event in events if isinstance(event, Step))] == [
        "latent",
        "mert",
        "muq",
    ]
    assert [state["key"] for state in manager.report() if state["loaded"]] == ["muq"]
    together = vectors_of(Pipeline(make_manager(), pool, tmp_path).embed(requests))
    assert len(together) == 5
    for key, vector in vectors_of(events).items():
        assert vector @ together[key] >= 0.999999


def test_files_of_the_next_call_are_read_while_the_first_has_the_device(
    pipeline: Pipeline, pool: DecodePool, songs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    is_read, decode = threading.Event(), pool.decode

    def noticing(path: str, formats: Sequence[AudioFormat], **wanted: bool) -> Iterator[AudioBlock | AudioSummary]:
        for part in decode(path, formats, **wanted):
            if path == str(songs["short.wav"]):
                is_read.set()
            yield part

    monkeypatch.setattr(pool, "decode", noticing)
    first = pipeline.embed([asked(songs["song.flac"], "muq")])
    assert isinstance(next(first), Step)
    answer: list[TrackOutcome | Step] = []
    second = threading.Thread(target=lambda: answer.extend(pipeline.embed([asked(songs["short.wav"], "muq")])))
    second.start()
    assert is_read.wait(60)
    assert not answer
    assert outcomes_of(first)
    second.join()
    assert outcomes_of(answer)["short.wav"].vectors


@pytest.mark.parametrize("memory_bytes", [1e12, 1], ids=["together", "models take turns"])
def test_calls_share_one_decoder_in_the_order_in_which_they_came(
    make_manager: Callable[..., CountingManager], songs: dict[str, Path], tmp_path: Path, memory_bytes: float
) -> None:
    served: list[int] = []
    with closing(DecodePool(1, block_seconds=0.5)) as single:  # a file is more than may wait for the device
        pipeline = Pipeline(make_manager(memory_bytes), single, tmp_path)

        def embed(number: int) -> None:
            requests = [asked(songs["short.wav"], "muq", "latent", id=str(n)) for n in range(3)]
            served.extend(number for event in pipeline.embed(requests) if isinstance(event, TrackOutcome))

        calls = [threading.Thread(target=embed, args=[number], daemon=True) for number in range(4)]
        for call in calls:
            call.start()
        for call in calls:
            call.join(120)
    each = 3 if memory_bytes > 1 else 6
    assert [len(list(of_call)) for _, of_call in groupby(served)] == [each] * 4


def test_each_batch_waits_for_its_turn(manager: CountingManager, pool: DecodePool, songs: dict[str, Path]) -> None:
    entered: list[int] = []

    @contextmanager
    def device_lock() -> Iterator[None]:
        entered.append(sum(len(sizes) for sizes in manager.batches.values()))
        yield

    list(Pipeline(manager, pool, songs["song.flac"].parent, device_lock=device_lock).embed([asked(songs["song.flac"])]))
    assert entered == list(range(len(entered)))


def test_a_model_without_weights_ends_the_run_before_any_work(
    checkpoints: dict[str, Path], pool: DecodePool, songs: dict[str, Path], tmp_path: Path
) -> None:
    encoders = {
        key: encoder_class(key)(source, "cpu")
        for key, source in {"latent": str(checkpoints["latent"]), "muq": str(tmp_path / "nothing")}.items()
    }
    pipeline = Pipeline(ModelManager(encoders, memory_bytes=1e12), pool, tmp_path)
    with pytest.raises(WeightsMissing):
        list(pipeline.embed([asked(songs["song.flac"], "latent", "muq")]))
    assert not threads_of_decoding()


def test_a_full_disk_is_no_tracks_fault(manager: CountingManager, pool: DecodePool, songs: dict[str, Path]) -> None:
    spool = songs["song.flac"]  # a file: no folder can be made there
    with pytest.raises(OSError, match=r"song\.flac"):
        list(Pipeline(manager, pool, spool).embed([asked(songs["song.flac"], "muq", spool_name="c")]))
    assert not threads_of_decoding()


def test_what_fails_before_a_track_is_decoded_ends_the_run(
    manager: CountingManager, pool: DecodePool, songs: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "c-muq.shape").write_text("damaged")
    with pytest.raises(ValueError, match="damaged"):
        list(Pipeline(manager, pool, tmp_path).embed([asked(songs["song.flac"], "muq", spool_name="c")]))
    assert not threads_of_decoding()


@pytest.fixture
def breaking(manager: CountingManager, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Exception], None]:
    """Let a loaded model raise an error for items of under three seconds."""

    def break_model(model: str, error: Exception) -> None:
        encoder = manager.encoder(model)
        encode = encoder.encode

        def failing(items: Items) -> NDArray[np.float32]:
            if items[0].shape[-1] < 3 * encoder.audio.sample_rate:
                raise error
            return encode(items)

        monkeypatch.setattr(encoder, "encode", failing)

    return break_model


def test_a_track_that_one_model_cannot_embed_succeeds_for_the_others(
    pipeline: Pipeline, breaking: Callable[[str, Exception], None], songs: dict[str, Path]
) -> None:
    breaking("mert", RuntimeError("no such kernel"))
    outcomes = outcomes_of(pipeline.embed([asked(songs["short.wav"]), asked(songs["song.flac"])]))
    assert outcomes["short.wav"].vectors.keys() == {"muq", "latent"}
    assert outcomes["song.flac"].vectors.keys() == set(MODEL_KEYS)
    failure = outcomes["short.wav"].failures["mert"]
    assert (failure.error_class, failure.message) == ("RuntimeError", "no such kernel")
    assert "Traceback" in failure.traceback


@pytest.mark.parametrize("ahead", [0, 1])
def test_in_a_batch_of_many_tracks_only_the_guilty_one_fails(
    ahead: int, pipeline: Pipeline, manager: CountingManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    encode = manager.encoder("mert").encode

    def fails_for_silence(items: Items) -> NDArray[np.float32]:
        if not all(item.any() for item in items):
            raise RuntimeError("silence")
        return encode(items)

    monkeypatch.setattr(manager.encoder("mert"), "encode", fails_for_silence)
    monkeypatch.setitem(BATCHES_AHEAD, "cpu", ahead)
    manager._slots["mert"].batch = 8
    for n in range(6):
        write_audio(tmp_path / f"{n}.wav", tone(2, seed=n) * (n != 3), 44_100)
    outcomes = outcomes_of(pipeline.embed([asked(tmp_path / f"{n}.wav", "mert") for n in range(6)]))
    assert {name for name, outcome in outcomes.items() if outcome.failures} == {"3.wav"}
    assert sum(bool(outcome.vectors) for outcome in outcomes.values()) == 5


def test_what_is_wrong_with_cutting_a_track_is_its_own_failure_and_no_work_of_the_devices_thread(
    pipeline: Pipeline, songs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, threads = MertSegmenter.finish, set()

    def finished(segmenter: MertSegmenter) -> Iterator[Item]:
        threads.add(threading.current_thread().name)
        if segmenter._stream._backlog.end < 3 * 24_000:
            raise IndexError("no such window")
        return finish(segmenter)

    monkeypatch.setattr(MertSegmenter, "finish", finished)
    outcomes = outcomes_of(pipeline.embed([asked(songs["short.wav"], "mert"), asked(songs["song.flac"], "mert")]))
    assert outcomes["short.wav"].failures["mert"].error_class == "IndexError"
    assert outcomes["song.flac"].vectors
    assert threads <= {"decode-0", "decode-1"}


def test_a_lost_device_ends_the_run(
    pipeline: Pipeline, breaking: Callable[[str, Exception], None], songs: dict[str, Path]
) -> None:
    breaking("mert", RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(EmbedderDied, match="illegal memory access"):
        list(pipeline.embed([asked(songs["short.wav"])]))


# Tracks of hours


def test_many_rows_are_pooled_from_a_file(
    pipeline: Pipeline, songs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled: list[NDArray[np.float32]] = []
    pool_rows = MertSegmenter.pool

    def watched(segmenter: MertSegmenter, rows: NDArray[np.float32]) -> Pooled:
        pooled.append(rows)
        return pool_rows(segmenter, rows)

    monkeypatch.setattr(MertSegmenter, "pool", watched)
    [in_memory] = vectors_of(pipeline.embed([asked(songs["window.mp3"], "mert")])).values()
    monkeypatch.setattr(RowStore, "memory_limit", 1_000)
    [in_file] = vectors_of(pipeline.embed([asked(songs["window.mp3"], "mert")])).values()
    assert [isinstance(rows, np.memmap) for rows in pooled] == [False, True]
    np.testing.assert_allclose(in_file, in_memory, atol=1e-6)


def rows_done(manager: CountingManager) -> int:
    return sum(sum(sizes) for sizes in manager.batches.values())


def long_request(songs: dict[str, Path]) -> TrackRequest:
    return asked(songs["long.m4a"], "mert", spool_name="abc")


def embed_half(pipeline: Pipeline, songs: dict[str, Path]) -> int:
    """Abort in the middle of a track; returns how many rows were encoded."""
    events = pipeline.embed([long_request(songs)])
    steps = [next(events) for _ in range(3)]
    events.close()
    return sum(step.items for step in steps if isinstance(step, Step))


def test_a_second_run_goes_on_where_the_first_was_aborted(
    pipeline: Pipeline, manager: CountingManager, songs: dict[str, Path]
) -> None:
    [whole] = vectors_of(pipeline.embed([asked(songs["long.m4a"], "mert")])).values()
    rows = rows_done(manager)
    spooled = embed_half(pipeline, songs)
    manager.batches.clear()
    [vector] = vectors_of(pipeline.embed([long_request(songs)])).values()
    assert 0 < rows_done(manager) == rows - spooled
    np.testing.assert_allclose(vector, whole, atol=1e-6)


def test_a_finished_track_can_be_asked_for_again_without_work(
    pipeline: Pipeline, manager: CountingManager, songs: dict[str, Path]
) -> None:
    [first] = vectors_of(pipeline.embed([long_request(songs)])).values()
    manager.batches.clear()
    [again] = vectors_of(pipeline.embed([long_request(songs)])).values()
    assert rows_done(manager) == 0
    np.testing.assert_array_equal(first, again)


def test_rows_of_finished_tracks_go_with_the_call_after_the_next(
    pipeline: Pipeline, songs: dict[str, Path], tmp_path: Path
) -> None:
    list(pipeline.embed([long_request(songs)]))
    list(pipeline.embed([asked(songs["short.wav"], "muq")]))
    assert list((tmp_path / "spool").iterdir())  # the caller may store what they led to while the next call runs
    list(pipeline.embed([asked(songs["short.wav"], "muq")]))
    assert not list((tmp_path / "spool").iterdir())


def test_rows_of_a_file_that_turned_out_damaged_are_forgotten(
    pipeline: Pipeline, songs: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "changes.m4a"
    path.write_bytes(songs["long.m4a"].read_bytes())
    embed_half(pipeline, {"long.m4a": path})
    path.write_bytes(b"")
    list(pipeline.embed([long_request({"long.m4a": path})]))
    assert not list((tmp_path / "spool").iterdir())
