"""Decoder processes: real ones, killed, stopped and orphaned."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from embeddings.audio.pool import AudioBlock, AudioSummary, DecodePool
from embeddings.audio.summary import Limits
from embeddings.errors import AudioError, AudioFileMissing, DecoderDied
from navembed_site.demo.encode import write_audio
from tests.audio.conftest import MONO, STEREO, decode_whole
from tests.audio_files import DAMAGED, tone, write_greedy, write_long
from tests.chaos.share import Share, hold_files
from tests.freezing import freeze

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make_pool() -> Iterator[Callable[..., DecodePool]]:
    pools: list[DecodePool] = []

    def make(
        processes: int = 1, *, hang_seconds: float = 60, block_seconds: float = 120, **limits: float
    ) -> DecodePool:
        pools.append(
            DecodePool(processes, limits=Limits(**limits), hang_seconds=hang_seconds, block_seconds=block_seconds)
        )
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pool") / "song.flac"
    write_audio(path, tone(10), 44_100)
    return path


def summary_of(pool: DecodePool, path: Path) -> AudioSummary:
    *_, summary = pool.decode(str(path), [MONO])
    assert isinstance(summary, AudioSummary)
    return summary


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_a_decoder_gives_what_decode_gives(make_pool: Callable[..., DecodePool], song: Path) -> None:
    *blocks, summary = make_pool(block_seconds=3).decode(str(song), [MONO, STEREO])
    waveforms, expected = decode_whole(song, [MONO, STEREO])
    assert len(blocks) > 1
    assert summary == expected
    for wanted, waveform in waveforms.items():
        pieces = [block.waveforms[wanted] for block in blocks if isinstance(block, AudioBlock)]
        np.testing.assert_array_equal(np.concatenate(pieces, axis=1), waveform)


def test_a_file_that_takes_too_much_memory_is_refused_for_good(
    make_pool: Callable[..., DecodePool], song: Path, tmp_path: Path
) -> None:
    write_greedy(tmp_path / "greedy.ape")
    pool = make_pool(gigabytes=0.5)
    with pytest.raises(AudioError, match=r"needs more than 0\.5 GB of memory to be decoded") as caught:
        summary_of(pool, tmp_path / "greedy.ape")
    assert caught.value.permanent
    assert summary_of(pool, song).audio_seconds == pytest.approx(10)
    assert len(pool.pids) == 1


def test_the_hash_is_that_of_the_summary(make_pool: Callable[..., DecodePool], song: Path) -> None:
    pool = make_pool()
    assert pool.audio_hash(str(song)) == summary_of(pool, song).audio_hash


def test_a_decoder_serves_many_files(make_pool: Callable[..., DecodePool], song: Path) -> None:
    pool = make_pool()
    for _ in range(3):
        summary_of(pool, song)
        pids = pool.pids
    assert pool.pids == pids


def test_threads_share_the_decoders(make_pool: Callable[..., DecodePool], song: Path) -> None:
    pool = make_pool(2, block_seconds=2)
    with ThreadPoolExecutor(6) as threads:
        summaries = list(threads.map(lambda _: summary_of(pool, song), range(12)))
    assert len(set(summaries)) == 1
    assert len(pool.pids) <= 2


def test_who_waits_for_a_decoder_goes_before_who_comes_back(make_pool: Callable[..., DecodePool], song: Path) -> None:
    pool = make_pool()
    with ThreadPoolExecutor() as threads, contextlib.ExitStack() as held:
        for _ in range(5):
            first = held.enter_context(contextlib.closing(pool.decode(str(song), [MONO])))
            next(first)
            waiting = threads.submit(pool.audio_hash, str(song))
            while not pool._places.not_empty._waiters:  # type: ignore[attr-defined]
                time.sleep(0.001)
            first.close()
            again = held.enter_context(contextlib.closing(pool.decode(str(song), [MONO])))
            next(again)
            assert waiting.result(timeout=30)
            again.close()


def test_reasons_cross_the_process_border(make_pool: Callable[..., DecodePool], tmp_path: Path) -> None:
    pool = make_pool()
    with pytest.raises(AudioError, match="mostly damaged") as refusal:
        summary_of(pool, DAMAGED["random bytes"].make(tmp_path))
    assert refusal.value.permanent
    with pytest.raises(AudioFileMissing):
        summary_of(pool, tmp_path / "gone\udce9.mp3")
    assert len(pool.pids) == 1


def test_a_closed_generator_frees_its_decoder(make_pool: Callable[..., DecodePool], song: Path) -> None:
    pool = make_pool(block_seconds=1)
    blocks = pool.decode(str(song), [MONO])
    next(blocks)
    pids = pool.pids
    blocks.close()
    assert summary_of(pool, song).audio_seconds == 10
    assert pool.pids == pids


def test_a_killed_decoder_is_named_and_replaced(make_pool: Callable[..., DecodePool], song: Path) -> None:
    pool = make_pool(block_seconds=1)
    blocks = pool.decode(str(song), [MONO])
    next(blocks)
    os.kill(pool.pids[0], signal.SIGKILL)
    with pytest.raises(DecoderDied, match="SIGKILL") as death:
        list(blocks)
    assert not death.value.permanent
    assert summary_of(pool, song).audio_seconds == 10


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_is_named(number: signal.Signals, make_pool: Callable[..., DecodePool], song: Path) -> None:
    pool = make_pool(block_seconds=1)
    blocks = pool.decode(str(song), [MONO])
    next(blocks)
    os.kill(pool.pids[0], number)
    with pytest.raises(DecoderDied, match=f"crashed with {number.name}"):
        list(blocks)


def test_an_idle_decoder_that_died_is_replaced_unnoticed(make_pool: Callable[..., DecodePool], song: Path) -> None:
    pool = make_pool()
    summary_of(pool, song)
    [pid] = pool.pids
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert summary_of(pool, song).audio_seconds == 10


def test_a_hung_decoder_is_killed_and_the_other_goes_on(make_pool: Callable[..., DecodePool], song: Path) -> None:
    pool = make_pool(2, hang_seconds=2, block_seconds=1)
    hung = pool.decode(str(song), [MONO])
    next(hung)
    [pid] = pool.pids
    other = pool.decode(str(song), [MONO])
    next(other)
    freeze(pid)
    with pytest.raises(DecoderDied, match="decoder hung for 2 s"):
        list(hung)
    assert gone(pid)
    assert isinstance(list(other)[-1], AudioSummary)


def test_closing_the_pool_ends_decoders_and_callers(make_pool: Callable[..., DecodePool], song: Path) -> None:
    pool = make_pool(1, block_seconds=1)
    blocks = pool.decode(str(song), [MONO])
    next(blocks)
    [pid] = pool.pids
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(summary_of, pool, song)
        pool.close()
        with pytest.raises(DecoderDied):
            list(blocks)
        assert isinstance(waiting.exception(), DecoderDied)
    assert gone(pid)


@pytest.fixture
def unanswered(song: Path, tmp_path: Path) -> Iterator[tuple[Path, Callable[[int], bool]]]:
    """The song on a share that does not answer, or held by somebody where there can be none; whether one waits for it.

    The kernel lets who has asked a share for something end only with the answer, also when it is killed.
    """
    try:
        share = Share(song.parent, tmp_path)
    except OSError:
        let_go = hold_files([song])
        yield song, lambda pid: psutil.Process(pid).status() == psutil.STATUS_SLEEPING
        let_go()
        return
    share.blocks = True
    yield tmp_path / song.name, lambda _: share.asked
    share.close()


def test_closing_the_pool_waits_for_no_share(
    make_pool: Callable[..., DecodePool], unanswered: tuple[Path, Callable[[int], bool]]
) -> None:
    path, waits = unanswered
    pool = make_pool()
    threads = ThreadPoolExecutor(2)
    threads.submit(summary_of, pool, path)
    while not any(waits(pid) for pid in pool.pids):
        time.sleep(0.05)
    threads.submit(pool.close).result(timeout=120)


def test_decoders_die_with_their_parent_even_when_they_are_stopped(song: Path) -> None:
    program = (
        "import sys, time; from embeddings.audio.pool import DecodePool\n"
        "pool = DecodePool(1, block_seconds=1); blocks = pool.decode(sys.argv[1], [(24000, 1)]); next(blocks)\n"
        "print(*pool.pids, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", program, str(song)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        freeze(pid)
        parent.kill()
    assert gone(pid)


def test_the_parent_does_not_import_the_decoder() -> None:
    program = "import sys, embeddings.audio.pool; sys.exit(bool({'av', 'soxr', 'torch', 'django'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_a_decoder_does_not_load_django_or_torch(make_pool: Callable[..., DecodePool], song: Path) -> None:
    pool = make_pool()
    summary_of(pool, song)
    mapped = {Path(part.path).name for part in psutil.Process(pool.pids[0]).memory_maps()}
    assert not any("torch" in name for name in mapped)
    assert psutil.Process(pool.pids[0]).num_threads() == 1


def peak_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1_024
    raise AssertionError("no VmHWM")


def shared_bytes(pid: int) -> int:
    links = Path(f"/proc/{pid}/fd").iterdir()
    return sum(link.stat().st_size for link in links if "memfd:" in str(link.readlink()))


def test_memory_does_not_grow_with_the_length_of_a_file(make_pool: Callable[..., DecodePool], tmp_path: Path) -> None:
    pool = make_pool(block_seconds=120)
    write_long(tmp_path / "short.wav", 5 / 60)
    write_long(tmp_path / "long.wav", 3)
    assert summary_of(pool, tmp_path / "short.wav").audio_seconds == 5 * 60
    peak = peak_megabytes(pool.pids[0])
    samples = 0
    for part in pool.decode(str(tmp_path / "long.wav"), [MONO]):
        if isinstance(part, AudioBlock):
            samples += part.waveforms[MONO].shape[1]
            assert shared_bytes(pool.pids[0]) < 16e6
    assert samples == 3 * 3_600 * 24_000
    assert peak_megabytes(pool.pids[0]) < peak + 16


def test_shared_memory_is_given_back_after_a_file(make_pool: Callable[..., DecodePool], song: Path) -> None:
    pool = make_pool()
    summary_of(pool, song)
    assert shared_bytes(pool.pids[0]) == 0
