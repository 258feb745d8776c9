"""Builds the plugins for Navidrome in build/ when their sources have changed; needs nothing from a network."""

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
PLUGINS = {"navembed": "manifest.json", "navembed-playlists": "manifest-playlists.json"}
GO = Path(sys.executable).with_name("go")
ENVIRONMENT = {
    "GOOS": "wasip1",
    "GOARCH": "wasm",
    "GOCACHE": str(BUILD / "go"),
    "GOTOOLCHAIN": "local",
    "GOPROXY": "off",
    "GOFLAGS": "-trimpath",
}


def build(name: str) -> Path:
    """Return the plugin, built anew unless it was made of the same sources; its zip's comment says of which."""
    plugin, manifest = BUILD / f"{name}.ndp", SOURCES / PLUGINS[name]
    sources = sorted([*SOURCES.glob("*.go"), SOURCES / "go.mod", manifest])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest().encode()
    if plugin.exists() and zipfile.ZipFile(plugin).comment == digest:
        return plugin
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        wasm, whole = Path(folder, "plugin.wasm"), Path(folder, plugin.name)
        tags = "-tags=playlists" if name == "navembed-playlists" else "-tags="
        command = [GO, "build", tags, "-buildmode=c-shared", "-ldflags=-s -w", "-o", wasm, "."]
        subprocess.run(command, cwd=SOURCES, env=os.environ | ENVIRONMENT, check=True)
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(manifest, "manifest.json")
            archive.write(wasm, "plugin.wasm")
            archive.comment = digest
        whole.replace(plugin)  # in one step: somebody else may be building, too
    return plugin


if __name__ == "__main__":
    for each in sys.argv[1:] or PLUGINS:
        print(build(each))
