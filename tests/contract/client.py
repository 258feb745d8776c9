"""A client that does what the Go server does: HTTP/1.1 on a kept connection, JSON, gzip, no credentials."""

from __future__ import annotations

import gzip
import http.client
import json
import math
from dataclasses import dataclass
from email.message import Message
from typing import Any

SECONDS = {"playlist": 5.0, "embed_text": 30.0}
"""How long the Go server waits for an answer, by the first word of the path."""
OTHER_SECONDS = 60.0

HEADERS = {
    "User-Agent": "Go-http-client/1.1",
    "Content-Type": "application/json",  # on GET too
    "Accept-Encoding": "gzip",
}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Message
    content: bytes

    @property
    def json(self) -> Any:
        """What the content says; ValueError for what is no JSON, which NaN and Infinity are not."""
        return json.loads(self.content.decode("utf-8"), parse_constant=_refuse)

    @property
    def is_json(self) -> bool:
        return self.headers.get_content_type() in ("application/json", "application/problem+json")


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


class GoClient:
    """One connection to a port of this machine, kept from call to call."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._is_kept = False

    @property
    def local_port(self) -> int:
        """Of the connection; another one after it was made anew."""
        return int(self._connection.sock.getsockname()[1])

    def get(self, path: str) -> Reply:
        return self.call("GET", path)

    def post(self, path: str, body: Any = None) -> Reply:
        """Send ``body`` as JSON; None is an empty body."""
        return self.call("POST", path, b"" if body is None else json.dumps(body).encode())

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        try:
            return self._call(method, path, body, headers)
        except (BrokenPipeError, ConnectionResetError):  # also http.client.RemoteDisconnected
            self.close()
            if not self._is_kept:
                raise
        return self._call(method, path, body, headers)  # the server had closed it meanwhile: Go, too, tries again

    def _call(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        self._is_kept = self._connection.sock is not None
        self._connection.timeout = SECONDS.get(path.split("/")[1], OTHER_SECONDS)
        if self._connection.sock is None:
            self._connection.connect()
        self._connection.sock.settimeout(self._connection.timeout)
        self._connection.request(method, path, body, HEADERS | headers)
        reply = self._connection.getresponse()
        content = reply.read()
        if reply.headers["Content-Encoding"] == "gzip":
            content = gzip.decompress(content)
        return Reply(reply.status, reply.headers, content)

    def close(self) -> None:
        self._connection.close()

    # The routes

    def start(self, *models: str, clear: bool = False) -> Reply:
        return self.post("/batch/start", {"models": list(models) or None, "clearExisting": clear})

    def progress(self) -> dict[str, Any]:
        """A poll that must not fail."""
        reply = self.get("/batch/progress")
        assert reply.status == 200, reply
        found: dict[str, Any] = reply.json
        return found

    def cancel(self) -> Reply:
        return self.post("/batch/cancel")

    def playlist(self, mode: str = "custom", **fields: Any) -> Reply:
        """With the fields that the Go server always sends, unless others are given; None leaves one out."""
        always = {"user_id": "u1", "user_name": "admin", "limit": 10, "mode": mode, "seeds": [], "diversity": 0.0}
        body = {name: value for name, value in (always | fields).items() if value is not None}
        return self.post(f"/playlist/{mode}", body)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
