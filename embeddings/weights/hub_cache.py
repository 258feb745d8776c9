"""The caches of the hub's client: ``models--owner--name/snapshots/<commit>/<file>`` is a link to ``blobs/<hash>``.

Read without the client, which finds no snapshot of which only the files that we need were downloaded, or one that
belongs to another revision than its ``main``.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from embeddings.weights import published

SHA256 = re.compile("[0-9a-f]{64}")
GIT_HASH = re.compile("[0-9a-f]{40}")


def snapshots(source: str, caches: Sequence[Path | None]) -> Iterator[Path]:
    """Yield the folders in ``caches`` that hold files of a hub id, best first. ``None`` is the user's own cache.

    Of each cache: the revision that the source says, and no other; else 1. the one that is known from publication,
    2. what was the newest when somebody asked last, 3. any other, the youngest first: other programs fetch those.
    """
    name, revision = published.split(source)
    for cache in caches:
        for known in published.names(name):
            folder = repository_folder(known, cache)
            here = _by_age(folder / "snapshots")
            wanted = [revision] if revision else [published.repository(known).revision, "main"]
            commits = [_commit(folder, each) for each in wanted] + ([] if revision else here)
            yield from (folder / "snapshots" / commit for commit in dict.fromkeys(commits) if commit in here)


def repository_folder(name: str, cache: Path | None) -> Path:
    """Return where a cache keeps a repository."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return (cache or Path(HF_HUB_CACHE)) / f"models--{name.replace('/', '--')}"


def is_as_the_hub_said(path: Path, digest: str) -> bool:
    """Whether a downloaded file, whose SHA-256 is ``digest``, is what the hub said; of other files nothing is known.

    A snapshot's files are links that are named by their SHA-256, small ones by what git calls them. Only the first
    link counts: what Xet stores lies under its Xet hash, which looks like a SHA-256 and is none.
    """
    said = path.readlink().name if path.is_symlink() else ""
    if GIT_HASH.fullmatch(said):
        return said == _git_hash(path)
    return said == digest or not SHA256.fullmatch(said)


def _git_hash(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _by_age(folder: Path) -> list[str]:
    """Return the names in a folder, the youngest first; none where it is absent or not ours to read."""
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry.stat().st_mtime for entry in entries if entry.is_dir()}
    except OSError:
        return []
    return sorted(found, key=lambda name: found[name], reverse=True)


def _commit(repository: Path, revision: str) -> str:
    """Return the commit that a branch or tag was when it was downloaded; anything else is a commit itself."""
    try:
        return (repository / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return revision
