"""Files that are not what their names say: pointers, web pages and broken downloads are common."""

from __future__ import annotations

import re
import string
import zipfile
from pathlib import Path

WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".ckpt"})
HEAD = 512  # bytes that tell what a file is
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
WEB_PAGE = re.compile(rb"^(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)", re.IGNORECASE)
TEXT = frozenset(string.printable.encode())


def damage(path: Path) -> str:
    """Say in a sentence why ``path`` is not the file that its name promises, and the mend; "" when nothing is wrong.

    Reads no more than its ends, so that it costs nothing beside whatever the file is wanted for.
    """
    try:
        problem = _problem(path)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}."
    if not problem:
        return ""
    if path.parent.parent.name == "snapshots":  # of a hub cache
        return f"{path} {problem}. `manage.py fetch_models` gets it again."
    return f"{path} {problem}. Put the whole file in its place."


def _problem(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return "is empty"
    if head.startswith(LFS_POINTER):
        return "is a pointer of git-lfs, not the file itself (`git lfs pull` gets that)"
    if WEB_PAGE.match(head):
        return "is a web page that was saved under this name"
    return _weights_problem(path, head) if path.suffix in WEIGHTS else ""


def _weights_problem(path: Path, head: bytes) -> str:
    if not any(head):
        return "begins with nothing but zeros: its download has not ended"
    if TEXT.issuperset(head):
        return f"is a text, not weights: {' '.join(head.decode().split())[:60]!r}"
    if path.suffix == ".safetensors":
        return _safetensors_problem(path)
    if head.startswith(b"PK\x03\x04") and not zipfile.is_zipfile(path):  # its table of contents is at the end
        return "is not whole: its end is missing"
    return ""


def _safetensors_problem(path: Path) -> str:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            return ""
    except SafetensorError as error:
        return f"is not whole, or damaged ({error})"
