"""Networks of their own for processes that tests start, and relays between a socket here and one there."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from navembed_site.process.parent import die_with_parent
from tests.freezing import freeze

CHUNK = 2**16


class Namespace:
    """A network without any way out, until an interface is put into it. ``prefix`` runs a command there.

    Whoever is not root gets it in a user namespace, in which ``beside`` puts another one. Raises OSError where the
    system allows no such thing.
    """

    def __init__(self, beside: Namespace | None = None) -> None:
        as_root = os.geteuid() == 0
        unshare = [*beside.prefix, "unshare", "-n"] if beside else ["unshare", "-n" if as_root else "-Urn"]
        self._holder = subprocess.Popen(
            [*unshare, "sh", "-c", "ip link set lo up && echo ready && cat"],
            stdin=subprocess.PIPE,  # its end would tell the holder that we have died
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.pid = self._holder.pid
        enter = ["-n"] if as_root else ["-U", "--preserve-credentials", "-n"]
        self.prefix = ["nsenter", "-t", str(self.pid), *enter]
        assert self._holder.stdout
        if self._holder.stdout.readline() != b"ready\n":
            self.close()
            raise OSError("no network namespace can be made here")

    def ip(self, *arguments: str) -> None:
        subprocess.run([*self.prefix, "ip", *arguments], check=True)

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()


@functools.cache
def can_have_namespaces() -> bool:
    """Whether ``Namespace`` works here: needs util-linux, iproute2, and root or user namespaces."""
    try:
        Namespace().close()
    except OSError:
        return False
    return True


class Relay:
    """A process that passes on connections, from ``listen`` to ``target``: each host:port or the path of a socket.

    ``freeze`` it, and who speaks through it gets no answer and no error, as from a network that is cut.
    """

    def __init__(self, listen: str, target: str, prefix: Sequence[str] = ()) -> None:
        command = [*prefix, sys.executable, "-m", "tests.network", listen, target]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout
        self.address = self._process.stdout.readline().decode().strip()
        assert self.address, f"nothing can listen at {listen}"

    def freeze(self) -> None:
        freeze(self._process.pid)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


def _notice_soon(line: socket.socket) -> None:
    """Tells the target within 30 s that the other side has vanished, as PostgreSQL is asked to (embeddings/apps.py)."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        line.setsockopt(socket.IPPROTO_TCP, option, value)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)


async def _relay(listen: str, target: str) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if target.startswith("/"):
                other_reader, other_writer = await asyncio.open_unix_connection(target)
            else:
                host, _, port = target.rpartition(":")
                other_reader, other_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        if not listen.startswith("/"):
            _notice_soon(writer.get_extra_info("socket"))
        await asyncio.gather(_pass_on(reader, other_writer), _pass_on(other_reader, writer))

    if listen.startswith("/"):
        server, address = await asyncio.start_unix_server(connected, listen), listen
    else:
        host, _, port = listen.rpartition(":")
        server = await asyncio.start_server(connected, host, int(port))
        address = f"{host}:{server.sockets[0].getsockname()[1]}"
    print(address, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(_relay(sys.argv[1], sys.argv[2]))
