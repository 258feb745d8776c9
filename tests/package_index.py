"""Tiny packages, and folders that serve them as package indexes do."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

VERSION = "1.0"
METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
BACKEND = "import shutil\ndef build_wheel(folder, *_):\n    shutil.copy('{0}', folder)\n    return '{0}'\n"


def wheel(folder: Path, name: str, files: Mapping[str, str | bytes], tag: str = "py3-none-any") -> Path:
    """Write a wheel with ``files``."""
    information = f"{name}-{VERSION}.dist-info"
    files = {
        **files,
        f"{information}/METADATA": METADATA.format(name=name),
        f"{information}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{information}/RECORD": "",
    }
    path = folder / f"{name}-{VERSION}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            entry = zipfile.ZipInfo(file)
            entry.external_attr = 0o100755 << 16  # a program, where it is one
            archive.writestr(entry, content)
    return path


def source(folder: Path, name: str, built: Path) -> Path:
    """Write a source distribution; building it gives the wheel ``built``, which it contains."""
    files = {
        built.name: built.read_bytes(),
        "PKG-INFO": METADATA.format(name=name).encode(),
        "pyproject.toml": b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND.format(built.name).encode(),
    }
    path = folder / f"{name}-{VERSION}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file, content in files.items():
            entry = tarfile.TarInfo(f"{name}-{VERSION}/{file}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def index(folder: Path, packages: Iterable[Path]) -> str:
    """Lay ``packages`` out in ``folder`` as a simple index; returns its address."""
    for package in packages:
        place = folder / _name(package).replace("_", "-")
        place.mkdir(parents=True)
        os.link(package, place / package.name)
        (place / "index.html").write_text(f'<a href="{package.name}">{package.name}</a>')
    return folder.as_uri()


def lock(packages: Iterable[Path]) -> str:
    """Return the requirements that pin ``packages`` with their hashes, whichever file of a package is taken."""
    lines: dict[str, str] = {}
    for package in packages:
        name = _name(package)
        lines[name] = lines.get(name, f"{name}=={VERSION}") + f" --hash=sha256:{_digest(package)}"
    return "\n".join(lines.values()) + "\n"


def _name(package: Path) -> str:
    return package.name.partition("-")[0]


def _digest(package: Path) -> str:
    return hashlib.sha256(package.read_bytes()).hexdigest()
