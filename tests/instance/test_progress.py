"""Progress as the panel sees it while the instance is in trouble."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
from collections.abc import Callable
from typing import Any

from tests.instance.conftest import Instance

# A job that waits needs no weights, and this instance has none.
START = "from batches import services; services.problems_with = lambda models: {}; services.start_job()"


def test_restarted_web_server_knows_the_job_without_its_database(
    instance: Instance, eventually: Callable[..., None]
) -> None:
    assert instance.start(code=START).wait(120) == 0
    instance.start("serve", "--only", "web")
    eventually(instance.answers)
    before = _progress(instance.port)
    (instance.home / "navembed.sqlite3").rename(instance.home / "elsewhere")
    os.killpg(instance.processes()["web"]["pid"], signal.SIGKILL)
    after = _progress(instance.port)
    assert (before["job_id"], after["job_id"], after["status"]) == (1, 1, before["status"])
    assert "navembed.sqlite3" in after["current_track"]


def _progress(port: int) -> Any:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        connection.request("GET", "/batch/progress")
        reply = connection.getresponse()
        assert reply.status == 200
        return json.loads(reply.read())
