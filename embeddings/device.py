"""What torch's device can do. Used by the embedder alone."""

from __future__ import annotations

import logging
import os

logger = logging.getLogger(__name__)


def choose_device(name: str) -> str:
    """Return the torch device for ``name`` (``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``).

    A GPU that is absent, or that this PyTorch has no kernels for, gives the CPU with a loud warning.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return name
    try:
        probe = torch.ones(64, 64, device=name)
        if float((probe @ probe).sum()) == 64.0**3:
            return name
        reason = "it computes wrong numbers"
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
    logger.warning("DEVICE %s CANNOT BE USED (%s): FALLING BACK TO THE CPU, WHICH IS MANY TIMES SLOWER", name, reason)
    return "cpu"


def free_memory(device: str) -> int:
    """Bytes that models may take on ``device``: free memory on a GPU, available memory on a CPU."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def empty_cache(device: str) -> None:
    """Give cached memory back to the device."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that the device, or the host, had no memory left."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
