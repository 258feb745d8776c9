"""Children that die with their parent, however it ends."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Has the kernel kill this process when the thread that started it ends. Does nothing outside Linux.

    Who starts our programs keeps the other end of their standard input: if that is closed, the parent died
    before this call, and the process ends at once.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    stdin = select.poll()
    stdin.register(0, 0)  # a hang-up is always reported
    if any(event & select.POLLHUP for _, event in stdin.poll(0)):
        os._exit(1)


def tie_forks_to_parent() -> None:
    """Makes every process forked from now on, and its forks, die with the parent."""
    parent = [0]

    def remember() -> None:
        parent[0] = os.getpid()

    def tie() -> None:
        die_with_parent()
        if os.getppid() != parent[0]:
            os._exit(1)  # it died before the kernel knew

    os.register_at_fork(before=remember, after_in_child=tie)
