"""The web server's sockets outlive it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from navembed_site.http import sockets
from tests.instance.conftest import Instance

Eventually = Callable[..., None]


def test_no_client_is_refused_while_the_web_server_restarts(instance: Instance, eventually: Eventually) -> None:
    instance.start("serve", "--only", "web")
    eventually(instance.answers)
    answers: list[int] = []
    clients = [threading.Thread(target=lambda: answers.append(_status(instance.port))) for _ in range(20)]
    web = instance.processes()["web"]["pid"]
    os.killpg(web, signal.SIGKILL)
    for client in clients:
        client.start()
        time.sleep(0.05)
    for client in clients:
        client.join()
    assert answers == [200] * 20
    assert instance.processes()["web"]["pid"] != web


def test_ipv6_sockets_are_kept_too(instance: Instance, eventually: Eventually) -> None:
    instance.environment["NAVEMBED_BIND"] = "::1"
    try:
        sockets.listen("::1", instance.port).close()
    except OSError:
        pytest.fail("this machine has no IPv6")
    instance.start("serve", "--only", "web")
    eventually(lambda: _accepts("::1", instance.port))
    assert _status(instance.port, "::1") == 200  # the socket accepts before there is a web server
    os.killpg(instance.processes()["web"]["pid"], signal.SIGKILL)
    assert _status(instance.port, "::1") == 200


def test_web_server_without_supervisor_listens_by_itself(instance: Instance, eventually: Eventually) -> None:
    instance.start("web")
    eventually(instance.answers)


def test_wildcard_of_ipv6_answers_ipv4_too() -> None:
    with sockets.listen("::", 0) as listener:
        assert _accepts("127.0.0.1", listener.getsockname()[1])


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 2).close()
    except OSError:
        return False
    return True


def _status(port: int, host: str = "127.0.0.1") -> int:
    with closing(http.client.HTTPConnection(host, port, timeout=120)) as connection:
        connection.request("GET", "/healthz", headers={"Host": "localhost"})
        return connection.getresponse().status


def test_bodies_do_not_wait_for_the_acknowledgement_of_their_heads() -> None:
    with sockets.listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection = listener.accept()[0]
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
