"""Builds build/navembed.ndp, the plugin for Navidrome, when its sources have changed; needs nothing from a network."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SOURCES = Path(__file__).parent
BUILD = SOURCES.parent / "build"
PLUGIN = BUILD / "navembed.ndp"
GO = Path(sys.executable).with_name("go")
ENVIRONMENT = {
    "GOOS": "wasip1",
    "GOARCH": "wasm",
    "GOCACHE": str(BUILD / "go"),
    "GOTOOLCHAIN": "local",
    "GOPROXY": "off",
    "GOFLAGS": "-trimpath",
}


def build() -> Path:
    """Return the plugin, built anew unless it was made of the same sources; its zip's comment says of which."""
    sources = sorted([*SOURCES.glob("*.go"), SOURCES / "go.mod", SOURCES / "manifest.json"])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest().encode()
    if PLUGIN.exists() and zipfile.ZipFile(PLUGIN).comment == digest:
        return PLUGIN
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        wasm, whole = Path(folder, "plugin.wasm"), Path(folder, PLUGIN.name)
        command = [GO, "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", wasm, "."]
        subprocess.run(command, cwd=SOURCES, env=os.environ | ENVIRONMENT, check=True)
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(SOURCES / "manifest.json", "manifest.json")
            archive.write(wasm, "plugin.wasm")
            archive.comment = digest
        whole.replace(PLUGIN)  # in one step: somebody else may be building, too
    return PLUGIN


if __name__ == "__main__":
    print(build())
