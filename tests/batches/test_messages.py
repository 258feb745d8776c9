"""What lies in Django-Q's tables is data: reading it runs nothing, and no function but our tasks."""

from __future__ import annotations

import base64
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from django_q import core_signing
from django_q.conf import Conf
from django_q.models import OrmQ, Task
from django_q.signing import BadSignature, SignedPackage
from django_q.tasks import async_task

from batches import tasks, webhook
from batches.messages import TASKS
from navembed_site.process import heartbeat
from tests.instance.conftest import MANAGE

pytestmark = pytest.mark.database


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class Raw:
    """Bytes as they are."""

    @staticmethod
    def dumps(data: bytes) -> bytes:
        return data


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    return tmp_path / "trapped"


def test_message_comes_back_as_it_was_sent(db: None) -> None:
    async_task("batches.tasks.run_device", 0, 7, cluster="jobs", task_name="device")
    [message] = OrmQ.objects.all()
    assert (message.task["args"], message.task["kwargs"], message.name()) == ((0, 7), {}, "device")


def test_message_of_another_host_is_read(tmp_path: Path) -> None:
    message = {"func": "batches.tasks.run_device", "args": [3, 1]}
    code = f"from django_q.signing import SignedPackage; print(SignedPackage.dumps({message}))"
    environment = os.environ | {"NAVEMBED_HOME": str(tmp_path)}  # with a secret key of its own
    written = subprocess.run(
        [*MANAGE, "shell", "--no-imports", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert SignedPackage.loads(written.stdout.strip())["args"] == (3, 1)


def test_pickle_is_not_read_even_when_it_is_signed(trap: Path) -> None:
    pickled = pickle.dumps(Trap(trap))
    package = core_signing.dumps(pickled, key=Conf.SECRET_KEY, salt=Conf.PREFIX, serializer=Raw)
    with pytest.raises(BadSignature):
        SignedPackage.loads(package)
    assert not trap.exists()


def test_pickled_result_is_not_read(db: None, trap: Path) -> None:
    now = timezone.now()
    Task.objects.create(id="a", name="a", func="f", started=now, stopped=now, result={"seen": 3}, success=True)
    assert Task.objects.get().result == {"seen": 3}
    pickled = base64.b64encode(pickle.dumps(Trap(trap))).decode()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_q_task SET result = %s", [pickled])
    assert Task.objects.get().result == pickled
    assert not trap.exists()


@pytest.mark.parametrize("function", ["os.mkdir", "batches.tasks.subprocess.run", "batches.tasks.no_such", None])
def test_function_that_is_no_task_of_ours_is_refused(function: str | None) -> None:
    with pytest.raises(BadSignature, match="is no task of ours"):
        SignedPackage.loads(SignedPackage.dumps({"func": function, "args": ()}))


def test_hook_is_refused() -> None:
    package = SignedPackage.dumps({"func": "batches.tasks.keep_house", "args": (), "hook": "os.mkdir"})
    with pytest.raises(BadSignature, match="hook"):
        SignedPackage.loads(package)


def test_all_tasks_are_ours() -> None:
    assert {*(function for _, function, _ in tasks.SCHEDULES), webhook.TASK, heartbeat.TASK} <= TASKS
