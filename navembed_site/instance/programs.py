"""The programs of one instance. Each takes the lock of its name while it lives, so at most one works at a time."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from navembed_site.process.locks import is_held
from navembed_site.process.unix_socket import accepts

LOG_BYTES = 10 * 2**20


@dataclass(frozen=True)
class Program:
    """A long-running ``manage.py`` command. ``socket``: accepts connections when it is ready."""

    name: str
    arguments: tuple[str, ...]
    socket: Path | None = None
    stop_seconds: int = 4  # with those of the services below: everything within 15 s
    stops_last: bool = False  # others use it until they end

    @property
    def kind(self) -> str:
        """The name without a device's number."""
        return self.name.partition("-")[0]

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(settings.BASE_DIR / "manage.py"), *self.arguments]

    @property
    def log(self) -> Path:
        return Path(settings.LOG_DIR) / f"{self.name}.log"

    @property
    def is_running(self) -> bool:
        """Whether some process does this program's work now; not whether it is ready."""
        return is_held(self.name) or bool(self.socket and accepts(self.socket))

    @property
    def is_ready(self) -> bool:
        return accepts(self.socket) if self.socket else self.is_running


def programs() -> dict[str, Program]:
    """Every program of this instance by name, in the order in which they start."""
    from embeddings.embedder.client import socket_path

    table = []
    if not settings.MILVUS_URI:
        table.append(
            Program("milvus_lite", ("milvus_lite",), settings.MILVUS_LITE_SOCKET, stop_seconds=6, stops_last=True)
        )
    for index in range(len(settings.DEVICES)):
        arguments = ("embedder", "--device-index", str(index))
        table.append(Program(f"embedder-{index}", arguments, socket_path(index), stops_last=True))
    table.append(Program("worker", ("worker",)))
    table.append(Program("light", ("worker", "--light")))
    table.append(Program("web", ("web", "--port", str(settings.PORT))))
    table.append(Program("text", ("web", "--port", str(settings.TEXT_PORT))))
    if settings.UPLOAD_SOCKET:
        table.append(Program("uploads", ("uploads",)))  # another instance may listen there: its lock alone tells
    return {program.name: program for program in table}
