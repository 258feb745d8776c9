"""What torch's device can do. Used by the embedder alone."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from embeddings.embedder.host_memory import give_freed_memory_back

logger = logging.getLogger(__name__)


def choose_device(name: str) -> str:
    """Return the torch device for ``name`` (``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``).

    A GPU that is absent, or that this PyTorch has no kernels for, gives the CPU with a loud warning.
    """
    if name == "cpu":
        return name
    import torch

    if name == "auto":
        if not torch.cuda.is_available():
            return "cpu"
        name = "cuda"
    try:
        probe = torch.ones(64, 64, device=name)
        if float((probe @ probe).sum()) == 64.0**3:
            return name
        reason = "it computes wrong numbers"
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
    logger.warning("DEVICE %s CANNOT BE USED (%s): FALLING BACK TO THE CPU, WHICH IS MANY TIMES SLOWER", name, reason)
    return "cpu"


def name_of(device: str) -> str:
    """Return what people call ``device``: the model of a GPU, else the kind."""
    if not device.startswith("cuda"):
        return device
    import torch

    return f"{torch.cuda.get_device_name(device)} ({device})"


def free_memory(device: str) -> int:
    """Bytes that models may take on ``device``: free memory on a GPU, available memory on a CPU."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        # Unlike the free pages that sysconf knows, this counts what the file cache would give up.
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def empty_cache(device: str) -> None:
    """Give cached memory back to the device, and to this machine."""
    give_freed_memory_back()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that the device, or the host, had no memory left."""
    import torch

    signs = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in signs)


def is_lost(error: BaseException) -> bool:
    """Whether the device is of no more use to this process: after such an error every call to CUDA fails."""
    return "CUDA error" in str(error) and not is_out_of_memory(error)
