"""The file of a backup: what is accepted, and what is refused before anything is touched."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from navembed_site.instance.backup import archive
from navembed_site.instance.backup.archive import DATABASE, MANIFEST, SETTINGS, BackupError, Manifest

EMPTY = Manifest("1", "sqlite", "2026", "host", {"tracks": 3}, [])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A good one."""
    members = {}
    for name, content in ((DATABASE, bytes(100_000)), (SETTINGS, b"A=1\n")):
        members[name] = tmp_path / name
        members[name].write_bytes(content)
    archive.write(tmp_path / "backup.tar", members, replace(EMPTY, sha256={}))
    return tmp_path / "backup.tar"


def test_what_was_written_is_read(file: Path) -> None:
    assert archive.verify(file).counts == {"tracks": 3}
    with archive.member(file, SETTINGS) as (content, size):
        assert (content.read(), size) == (b"A=1\n", 4)


def test_file_is_a_tar_that_others_can_read(file: Path) -> None:
    with tarfile.open(file) as tar:
        assert tar.getnames() == [DATABASE, SETTINGS, MANIFEST]


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.9])
def test_cut_off_file_is_refused(file: Path, kept: float) -> None:
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    with pytest.raises(BackupError):
        archive.verify(file)


def test_changed_byte_is_noticed(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[50_000] ^= 1
    file.write_bytes(content)
    with pytest.raises(BackupError, match="damaged"):
        archive.verify(file)


def rewritten(file: Path, change: Callable[[tarfile.TarFile], None], *, without: str = "") -> Path:
    """The same with something added, and a member left out."""
    target = file.with_name("changed.tar")
    with tarfile.open(file) as old, tarfile.open(target, "w") as new:
        for member in old:
            if member.name != without:
                new.addfile(member, old.extractfile(member))
        change(new)
    return target


def add(name: str, content: bytes = b"", **fields: Any) -> Callable[[tarfile.TarFile], None]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return lambda tar: tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "more", DATABASE])
def test_strange_or_second_member_is_refused(file: Path, name: str) -> None:
    with pytest.raises(BackupError, match="no backup of navembed"):
        archive.verify(rewritten(file, add(name)))


KINDS = {
    "link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE, "disk": tarfile.BLKTYPE,
    "pipe": tarfile.FIFOTYPE, "folder": tarfile.DIRTYPE, "file with holes": tarfile.GNUTYPE_SPARSE,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_anything_but_a_plain_file_is_refused(file: Path, kind: str) -> None:
    link = add(SETTINGS, type=KINDS[kind], linkname="/etc/passwd")
    with pytest.raises(BackupError, match="no plain file"):
        archive.verify(rewritten(file, link, without=SETTINGS))


def test_file_without_its_manifest_is_incomplete(file: Path) -> None:
    with pytest.raises(BackupError, match="incomplete"):
        archive.verify(rewritten(file, lambda tar: None, without=MANIFEST))


def test_missing_member_is_noticed(file: Path) -> None:
    with pytest.raises(BackupError, match="damaged"):
        archive.verify(rewritten(file, lambda tar: None, without=SETTINGS))


@pytest.mark.parametrize(
    ("text", "reason"), [(json.dumps({"format": 2}), "format 2"), ("[", "damaged"), ('{"format": 1}', "damaged")]
)
def test_manifest_of_another_kind_is_refused(file: Path, text: str, reason: str) -> None:
    with pytest.raises(BackupError, match=reason):
        archive.verify(rewritten(file, add(MANIFEST, text.encode()), without=MANIFEST))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"none\.tar cannot be read"):
        archive.verify(tmp_path / "none.tar")


def test_disk_that_is_too_small_is_told_with_the_figures(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"^1,000,000,000 GB are needed in .*, which has .* [kMG]B free$"):
        archive.require_free_disk(tmp_path, 10**18)
