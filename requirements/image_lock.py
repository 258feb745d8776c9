"""``image_lock.py cuda|cpu``: prints what of lock.txt an image needs, which is all but what serves tests alone.

``cuda`` keeps PyTorch as the lock has it, with all of CUDA on x86-64: it runs on CPUs, too. ``cpu`` asks for PyTorch's
builds without CUDA. They are not on PyPI, so the lock has no hashes of them, only their versions.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

LOCK = Path(__file__).with_name("lock.txt")
TORCH = ("torch", "torchaudio", "torchvision")
CUDA = ("cuda-", "nvidia-", "triton")


def image_lock(lock: str, torch: str) -> str:
    """Return the entries of ``lock`` that requirements/base.txt needs, and uv, which installs them."""
    entries = [(entry.partition("==")[0], entry) for entry in re.split(r"^(?=\w)", lock, flags=re.MULTILINE)[1:]]
    needed = {"-r requirements/base.txt"}
    while found := {name for name, entry in entries if needed & _wanted_by(entry)} - needed:
        needed |= found
    kept = [(name, entry) for name, entry in entries if name in needed or name == "uv"]
    if torch == "cuda":
        return "".join(entry for _, entry in kept)
    return "".join(_without_cuda(name, entry) for name, entry in kept if not name.startswith(CUDA))


def _wanted_by(entry: str) -> set[str]:
    return set(re.findall(r"^ +# +(?:via )?(.+)$", entry, re.MULTILINE))


def _without_cuda(name: str, entry: str) -> str:
    return entry.partition(" ")[0] + "+cpu\n" if name in TORCH else entry


if __name__ == "__main__":
    if sys.argv[1:] not in (["cuda"], ["cpu"]):
        sys.exit(f"TORCH is {' '.join(sys.argv[1:])!r}; it must be cuda or cpu.")
    sys.stdout.write(image_lock(LOCK.read_text(encoding="ascii"), sys.argv[1]))
