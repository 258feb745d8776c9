"""When models are loaded, kept and unloaded. The clock is ours; a fake stands where memory must run out."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from embeddings.embedder.model_manager import WORKING_MEMORY, ModelManager
from embeddings.encoders.base import Description, Encoder
from embeddings.encoders.registry import encoder_class
from embeddings.errors import DeviceOutOfMemory

IDLE = 100.0
MEGABYTE = 2**20


class Fake(Encoder):
    """A megabyte of weights. A batch of more than ``room`` items does not fit in memory."""

    batch_size = 16

    def __init__(self, key: str) -> None:
        super().__init__("", "cpu")
        self.key = key  # type: ignore[misc]
        self.room = 10**6
        self.loads = 0
        self.loads_without_memory = 0

    def describe(self) -> Description:
        return Description(1, {}, MEGABYTE, "")

    def segmenter(self) -> Any:
        raise NotImplementedError

    def _build(self) -> torch.nn.Module:
        return torch.nn.Linear(MEGABYTE // 4, 1, bias=False)

    def _load(self) -> torch.nn.Module:
        self.loads += 1
        if self.loads_without_memory:
            self.loads_without_memory -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._build()

    def encode(self, items: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(items) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return items * 2


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fakes() -> dict[str, Fake]:
    return {key: Fake(key) for key in "abc"}


@pytest.fixture
def make(fakes: dict[str, Fake], clock: Clock) -> Callable[[float], ModelManager]:
    """A manager with room for so many models."""

    def make(room: float) -> ModelManager:
        budget = room * MEGABYTE * (1 + WORKING_MEMORY)
        return ModelManager(fakes, memory_bytes=budget, idle_seconds=IDLE, clock=clock)

    return make


def use(manager: ModelManager, *keys: str) -> None:
    for key in keys:
        with manager.use(key):
            pass


def loaded(manager: ModelManager) -> str:
    return "".join(state["key"] for state in manager.report() if state["loaded"])


def test_a_real_model_is_loaded_once_however_many_threads_want_it(checkpoints: dict[str, Path]) -> None:
    loads: list[int] = []

    class Counting(encoder_class("latent")):  # type: ignore[misc]
        def _load(self) -> Any:
            loads.append(1)
            return super()._load()

    manager = ModelManager({"latent": Counting(str(checkpoints["latent"]), "cpu")}, memory_bytes=1e12)
    assert loaded(manager) == ""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: use(manager, "latent"), range(16)))
    assert len(loads) == 1
    [state] = manager.report()
    assert (state["key"], state["device"], state["loaded"]) == ("latent", "cpu", True)
    assert state["bytes"] > 10_000


def test_models_are_loaded_one_at_a_time(
    make: Callable[..., ModelManager], fakes: dict[str, Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, most, load = [], [], Fake._load

    def slow_load(self: Fake) -> torch.nn.Module:
        at_once.append(self)
        most.append(len(at_once))
        time.sleep(0.02)
        at_once.remove(self)
        return load(self)

    monkeypatch.setattr(Fake, "_load", slow_load)
    manager = make(3)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda key: use(manager, key), "abc"))
    assert (len(most), max(most)) == (3, 1)


def test_an_idle_model_is_unloaded(make: Callable[..., ModelManager], clock: Clock) -> None:
    manager = make(3)
    use(manager, "a")
    clock.now = IDLE - 1
    use(manager, "b")
    assert manager.unload_idle() == []
    clock.now = IDLE
    assert manager.unload_idle() == ["a"]
    assert loaded(manager) == "b"


def test_a_model_in_use_or_expected_is_never_idle(make: Callable[..., ModelManager], clock: Clock) -> None:
    manager = make(3)
    use(manager, "a", "b")
    with manager.use("a"), manager.expect(["b"]):
        clock.now = 10 * IDLE
        assert manager.unload_idle() == []
        assert {state["idle_seconds"] for state in manager.report()[:2]} == {0.0}
    assert manager.unload_idle() == ["b"]


def test_the_least_recently_used_model_makes_room(make: Callable[..., ModelManager], clock: Clock) -> None:
    manager = make(2)
    for key in "aba":
        clock.now += 1
        use(manager, key)
    use(manager, "c")
    assert loaded(manager) == "ac"


def test_a_model_in_use_is_not_evicted(make: Callable[..., ModelManager]) -> None:
    manager = make(1)
    with manager.use("a"):
        use(manager, "b")
        assert "a" in loaded(manager)


@pytest.mark.parametrize(
    ("room", "groups"), [(3, ["abc"]), (2, ["ab", "c"]), (1, ["a", "b", "c"]), (0.1, ["a", "b", "c"])]
)
def test_models_that_fit_together_are_grouped(
    make: Callable[..., ModelManager], room: float, groups: list[str]
) -> None:
    assert ["".join(group) for group in make(room).groups("abc")] == groups


def test_out_of_memory_halves_the_batch_and_remembers(
    make: Callable[..., ModelManager], fakes: dict[str, Fake]
) -> None:
    manager = make(3)
    fakes["a"].room = 3
    items = np.arange(10, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(manager.encode("a", items), items * 2)
    assert manager.batch_size("a") <= 3


def test_out_of_memory_unloads_what_nobody_uses(make: Callable[..., ModelManager], fakes: dict[str, Fake]) -> None:
    manager = make(3)
    use(manager, "b", "c")
    fakes["a"].room = 1
    with manager.use("c"):
        manager.encode("a", np.zeros((2, 1), np.float32))
    assert loaded(manager) == "ac"


def test_a_batch_of_one_that_does_not_fit_is_an_error_that_may_pass(
    make: Callable[..., ModelManager], fakes: dict[str, Fake]
) -> None:
    fakes["a"].room = 0
    with pytest.raises(DeviceOutOfMemory, match="batch of one") as failure:
        make(3).encode("a", np.zeros((4, 1), np.float32))
    assert (failure.value.permanent, failure.value.model) == (False, "a")


def test_a_model_that_does_not_fit_is_loaded_once_others_have_gone(
    make: Callable[..., ModelManager], fakes: dict[str, Fake]
) -> None:
    manager = make(3)
    use(manager, "b")
    fakes["a"].loads_without_memory = 1
    use(manager, "a")
    assert loaded(manager) == "a"
    fakes["c"].loads_without_memory = 2
    with pytest.raises(DeviceOutOfMemory, match="c does not fit"):
        use(manager, "c")


def test_another_error_is_passed_on(make: Callable[..., ModelManager], fakes: dict[str, Fake]) -> None:
    fakes["a"].encode = lambda items: items.reshape(7, 7)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="reshape"):
        make(3).encode("a", np.zeros((4, 1), np.float32))


def test_unloading_on_request(make: Callable[..., ModelManager], fakes: dict[str, Fake]) -> None:
    manager = make(3)
    assert not manager.unload("a")
    with manager.use("a"):
        assert not manager.unload("a")
    assert manager.unload("a")
    assert manager.report()[0]["bytes"] == 0
    use(manager, "a")
    assert fakes["a"].loads == 2


def test_shutdown_leaves_what_is_in_use(make: Callable[..., ModelManager]) -> None:
    manager = make(3)
    use(manager, "a", "b")
    with manager.use("b") as encoder:
        manager.shutdown()
        assert encoder.loaded
    assert loaded(manager) == "b"


def test_an_unknown_model_is_expected_by_nobody(make: Callable[..., ModelManager], clock: Clock) -> None:
    manager = make(3)
    use(manager, "a")
    with pytest.raises(KeyError), manager.expect(["a", "nothing"]):
        pass
    clock.now = IDLE
    assert manager.unload_idle() == ["a"]


def test_slow_batches_shrink_and_quick_ones_grow(
    make: Callable[..., ModelManager], fakes: dict[str, Fake], clock: Clock
) -> None:
    manager = make(3)

    def encode_for(seconds: float, size: int) -> int:
        def encode(items: NDArray[np.float32]) -> NDArray[np.float32]:
            clock.now += seconds
            return items

        fakes["a"].encode = encode  # type: ignore[method-assign]
        manager.encode("a", np.zeros((size, 1), np.float32))
        return manager.batch_size("a")

    assert [encode_for(0.1, 1), encode_for(0.1, 2), encode_for(0.1, 1), encode_for(1, 4)] == [2, 4, 4, 4]
    assert [encode_for(5, 4), encode_for(5, 1), encode_for(0.1, 16)] == [2, 1, 16]
