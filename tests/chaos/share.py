"""A network share that fails on demand: a read-only file system of our own, spoken to the kernel over /dev/fuse.

It passes a folder through. What it is asked while it is to block is answered when it blocks no longer, and so keeps
those who asked in uninterruptible sleep, as NFS does. The protocol is that of Linux's include/uapi/linux/fuse.h, 7.31.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import struct
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

FORGET, RELEASE, INIT, RELEASEDIR, INTERRUPT, BATCH_FORGET = 2, 18, 26, 29, 36, 42
UNANSWERED = (FORGET, BATCH_FORGET, INTERRUPT)
NEVER_REFUSED = (INIT, RELEASE, RELEASEDIR)
HEADER = struct.Struct("<IIQQIIII")  # length, opcode, request, node, uid, gid, pid, padding
ANSWER = struct.Struct("<IiQ")
MNT_DETACH = 2
DIRECT_IO = 1  # no cache of the kernel answers instead of us
ROOT = 1
BUFFER = 2**20


class Share(threading.Thread):
    """``source`` seen below ``mount``. Set ``error`` to an errno, or ``blocks``, and it is in trouble."""

    def __init__(self, source: Path, mount: Path) -> None:
        """Raises OSError where the system has no FUSE or does not let us mount."""
        super().__init__(name="share", daemon=True)
        self.error = 0
        self.blocks = False
        self._source = source
        self._mount = mount
        self._nodes = {ROOT: ""}
        self._numbers = {"": ROOT}
        self._waiting: list[bytes] = []
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other"
        try:
            _libc("mount", b"share", os.fsencode(mount), b"fuse", 0, options.encode())
        except OSError:
            os.close(self._device)
            raise
        self._answer(os.read(self._device, BUFFER))  # INIT: before it, nobody asks for anything
        self.start()

    @property
    def asked(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._waiting)

    def close(self) -> None:
        """Answer what waits, and go."""
        self.blocks = False
        _libc("umount2", os.fsencode(self._mount), MNT_DETACH)
        self.join(10)

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._device, select.POLLIN)
        while True:
            if poll.poll(50):
                try:
                    self._waiting.append(os.read(self._device, BUFFER))
                except OSError as error:
                    if error.errno == errno.ENODEV:  # unmounted, and nobody uses it any more
                        os.close(self._device)
                        return
            while self._waiting and not self.blocks:
                self._answer(self._waiting.pop(0))

    def _answer(self, request: bytes) -> None:
        _, opcode, number, node, *_ = HEADER.unpack_from(request)
        if opcode in UNANSWERED:
            return
        body, code = b"", 0
        try:
            if self.error and opcode not in (INIT, RELEASE, RELEASEDIR):
                raise OSError(self.error, "")
            body = self._do(opcode, node, request[HEADER.size :])
        except OSError as error:
            code = error.errno or errno.EIO
        with suppress(OSError):  # the process that asked has been killed
            os.write(self._device, ANSWER.pack(ANSWER.size + len(body), -code, number) + body)

    def _do(self, opcode: int, node: int, body: bytes) -> bytes:
        do = {
            1: self._lookup,
            3: lambda *_: struct.pack("<Q2I", 0, 0, 0) + _attributes(self._path(node)),  # getattr
            14: lambda *_: struct.pack("<Q2I", os.open(self._path(node), os.O_RDONLY), DIRECT_IO, 0),
            15: _read,
            17: lambda *_: struct.pack("<5Q4I24x", 2**20, 0, 0, 2**20, 0, 4096, 255, 4096, 0),  # statfs
            RELEASE: _release,
            INIT: lambda *_: struct.pack("<4I2H2I2HI28x", 7, 31, 2**17, 0, 12, 9, 2**17, 1, 32, 0, 0),
            27: lambda *_: struct.pack("<Q2I", 0, 0, 0),  # opendir
            28: self._readdir,
            RELEASEDIR: lambda *_: b"",
        }.get(opcode)
        if do is None:
            raise OSError(errno.ENOSYS, "")
        return do(node, body)

    def _path(self, node: int) -> Path:
        return self._source / self._nodes[node]

    def _lookup(self, node: int, body: bytes) -> bytes:
        name = os.fsdecode(body.split(b"\0")[0])
        attributes = _attributes(self._path(node) / name)
        return struct.pack("<4Q2I", self._number(node, name), 0, 0, 0, 0, 0) + attributes

    def _readdir(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        return _entries([path.name for path in self._path(node).iterdir()], offset, size)

    def _number(self, node: int, name: str) -> int:
        path = f"{self._nodes[node]}/{name}".lstrip("/")
        number = self._numbers.setdefault(path, len(self._numbers) + ROOT)
        self._nodes[number] = path
        return number


def hold_files(paths: Iterable[Path]) -> Callable[[], None]:
    """Where there is no FUSE: those who open these files wait until the result is called or for 45 s.

    The kernel lets it wait for our lease of the file (fcntl(2)); files that are open just now stay as they are.
    """
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # by which it asks us for it
    files = [os.open(path, os.O_RDWR) for path in paths if path.is_file()]
    for file in files:
        with suppress(OSError):
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    def let_go() -> None:
        for file in files:
            os.close(file)

    return let_go


def _read(_: int, body: bytes) -> bytes:
    file, offset, size = struct.unpack_from("<QQI", body)
    return os.pread(file, size, offset)


def _release(_: int, body: bytes) -> bytes:
    os.close(struct.unpack_from("<Q", body)[0])
    return b""


def _attributes(path: Path) -> bytes:
    found = path.lstat()
    times = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
    sizes = (found.st_ino, found.st_size, found.st_blocks)
    who = (found.st_mode, found.st_nlink, found.st_uid, found.st_gid, 0, 4096, 0)
    return struct.pack("<6Q10I", *sizes, *(t // 10**9 for t in times), *(t % 10**9 for t in times), *who)


def _entries(names: list[str], offset: int, size: int) -> bytes:
    packed = b""
    for position, name in enumerate(map(os.fsencode, sorted(names)[offset:]), offset + 1):
        entry = struct.pack("<2Q2I", position + 1, position, len(name), 0) + name
        entry += bytes(-len(entry) % 8)
        if len(packed) + len(entry) > size:
            break
        packed += entry
    return packed


def _libc(function: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
