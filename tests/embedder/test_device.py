from __future__ import annotations

import logging

import pytest
import torch

from embeddings.embedder.device import choose_device, free_memory, is_lost, is_out_of_memory


@pytest.mark.parametrize("name", ["cuda:97", "mps"])
def test_a_gpu_that_is_not_there_gives_the_cpu_with_a_warning(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_device(name) == "cpu"
    assert f"DEVICE {name} CANNOT BE USED" in caplog.text


def test_auto_takes_the_gpu_that_there_is() -> None:
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_cpus_memory_counts_what_the_file_cache_would_give_up() -> None:
    assert free_memory("cpu") > 2**28


def test_the_hosts_allocator_reports_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**55)
    assert is_out_of_memory(failure.value)


@pytest.mark.parametrize(
    ("error", "out_of_memory", "lost"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), True, False),
        (MemoryError(), True, False),
        (RuntimeError("CUDA error: out of memory"), True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True, False),
        (RuntimeError("CUDA error: device-side assert triggered"), False, True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
    ],
)
def test_errors_of_a_gpu_are_told_apart(error: Exception, out_of_memory: bool, lost: bool) -> None:
    assert (is_out_of_memory(error), is_lost(error)) == (out_of_memory, lost)
