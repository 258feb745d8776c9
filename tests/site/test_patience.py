"""Who was stopped itself takes nobody for dead: real processes, stopped and continued."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from django.conf import settings

LISTENER = """
import sys, time
from navembed_site.process import patience
patience.LOOK_SECONDS, patience.GAP_SECONDS = 0.1, 0.5
print("listens", flush=True)
print(patience.is_readable(0, 3.0), flush=True)
"""
WATCHER = """
import time
from navembed_site.process import patience
patience.GAP_SECONDS = 0.5
presence = patience.Presence()
seen = []
for _ in range(4):
    print("looks", flush=True)
    time.sleep(1)
    seen.append(presence.seconds())
print(0.0 in seen, flush=True)
"""

Program = subprocess.Popen[str]


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Iterator[Program]:
    command = [sys.executable, "-c", request.param]
    with subprocess.Popen(
        command, cwd=settings.BASE_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def stop_for(process: Program, seconds: float) -> None:
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)


def said(process: Program) -> str:
    assert process.stdout
    return process.stdout.read().split()[-1]


@pytest.mark.parametrize("program", [LISTENER], indirect=True)
def test_who_was_stopped_goes_on_listening(program: Program) -> None:
    stop_for(program, 4)
    assert program.stdin
    time.sleep(0.3)  # what it waits for was stopped, too, and takes a moment
    program.stdin.write("here")
    program.stdin.close()
    assert said(program) == "True"


@pytest.mark.parametrize("program", [LISTENER], indirect=True)
def test_silence_that_was_listened_to_counts(program: Program) -> None:
    assert said(program) == "False"


@pytest.mark.parametrize("program", [WATCHER], indirect=True)
def test_what_happened_while_we_were_stopped_was_seen_by_nobody(program: Program) -> None:
    stop_for(program, 2)
    assert said(program) == "True"
