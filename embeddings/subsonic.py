"""The Subsonic API, which Navidrome and many other music servers speak: one account's questions and their answers."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings

from embeddings.errors import ServerRefused, ServerUnavailable
from navembed_site import VERSION
from navembed_site.http.reasons import reason_of
from navembed_site.names import short_text
from navembed_site.process.slow_calls import RaiseIfStopped

if TYPE_CHECKING:
    import httpx

API = "1.16.1"
SECONDS = 30.0
MOST_BYTES = 64 * 2**20  # of an answer: 500 tracks take half a megabyte
PIECE_BYTES = 2**20
TEXTS = ("application/json", "application/xml", "text/")
"""Types of answers that are no music."""
WRONG_PASSWORD, NO_TOKENS, NOT_ALLOWED, NOT_FOUND = 40, 41, 50, 70

Parameter = str | int | Sequence[str]


class Subsonic:
    """A server at ``address``, asked as ``user``; used in a ``with``.

    Every question is a POST whose form holds everything: addresses end up in logs. The password itself is never sent,
    only a token made of it.
    """

    def __init__(self, address: str, user: str, password: str, seconds: float = SECONDS) -> None:
        import httpx

        self.user = user
        self._host = urlsplit(address).hostname or ""
        self._address = address.rstrip("/")
        self._password = password
        self.source = f"{self._address} {user}"
        self._client = httpx.Client(timeout=seconds, headers={"User-Agent": f"navembed/{VERSION}"})

    def __enter__(self) -> Subsonic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ask(self, method: str, **parameters: Parameter) -> dict[str, Any]:
        """Return the server's answer to a question of the API. Raises ServerUnavailable, ServerRefused."""
        with self._asked(method, parameters) as answer:
            body = self._read(answer)
        return self._content(body)

    def fetch(self, track_id: str, file: Path, raise_if_stopped: RaiseIfStopped) -> None:
        """Write a track's file, as the server has it, to ``file``; ``raise_if_stopped`` is called all the while.

        Raises ServerUnavailable, ServerRefused, OSError, and what ``raise_if_stopped`` raises.
        """
        with self._asked("stream", {"id": track_id, "format": "raw"}) as answer, file.open("wb") as out:
            if answer.headers.get("Content-Type", "").startswith(TEXTS):
                self._content(self._read(answer))  # says why
                raise ServerUnavailable(f"The music server {self._host} sends no music for {track_id}.")
            for piece in answer.iter_bytes(PIECE_BYTES):
                raise_if_stopped()
                out.write(piece)

    @contextmanager
    def _asked(self, method: str, parameters: Mapping[str, Parameter]) -> Iterator[httpx.Response]:
        import httpx

        form = {**self._credentials(), **parameters}
        try:
            with self._client.stream("POST", f"{self._address}/rest/{method}", data=form) as answer:
                self._require_success(answer)
                yield answer
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServerUnavailable(f"The music server {self._host} cannot be reached: {reason_of(error)}.") from None

    def _credentials(self) -> dict[str, str]:
        salt = secrets.token_hex(8)
        # MD5 is the API's choice.
        token = hashlib.md5(f"{self._password}{salt}".encode(), usedforsecurity=False).hexdigest()
        return {"u": self.user, "t": token, "s": salt, "v": API, "c": "navembed", "f": "json"}

    def _require_success(self, answer: httpx.Response) -> None:
        if answer.is_redirect:
            raise ServerUnavailable(
                f"The music server {self._host} sends us to another address: name that in NAVEMBED_SUBSONIC_URL."
            )
        if not answer.is_success:
            raise ServerUnavailable(f"The music server {self._host} answers with HTTP status {answer.status_code}.")

    def _read(self, answer: httpx.Response) -> bytes:
        body = bytearray()
        for part in answer.iter_bytes():
            body += part
            if len(body) > MOST_BYTES:
                raise ServerUnavailable(f"The music server {self._host} answers with more than a list can take.")
        return bytes(body)

    def _content(self, body: bytes) -> dict[str, Any]:
        try:
            content = json.loads(body)["subsonic-response"]
            if content["status"] == "ok":
                return dict(content)
            error = content["error"]
            code, told = int(error["code"]), short_text(error.get("message", ""))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ServerUnavailable(
                f"What answers at {self._host} does not speak the Subsonic API: look at NAVEMBED_SUBSONIC_URL."
            ) from None
        raise ServerRefused(_refusal(code, told, self.user), code=code)


def subsonic(seconds: float = SECONDS) -> Subsonic:
    """Return the server of the settings, which may take so long for each step of an answer.

    Raises ServerUnavailable, naming what is not set.
    """
    wanted = {
        "NAVEMBED_SUBSONIC_URL": settings.SUBSONIC_URL,
        "NAVEMBED_SUBSONIC_USER": settings.SUBSONIC_USER,
        "NAVEMBED_SUBSONIC_PASSWORD": settings.SUBSONIC_PASSWORD,
    }
    if missing := [name for name, value in wanted.items() if not value]:
        raise ServerUnavailable(f"There is no music server to ask: set {', '.join(missing)}.")
    return Subsonic(settings.SUBSONIC_URL, settings.SUBSONIC_USER, settings.SUBSONIC_PASSWORD, seconds)


def listed(answer: dict[str, Any], *names: str) -> list[dict[str, Any]]:
    """Return a list out of an answer, by the names that lead to it; one that is absent is empty, one thing a list."""
    found: Any = answer
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    things = found if isinstance(found, list) else [found]
    return [thing for thing in things if isinstance(thing, dict)]


def _refusal(code: int, told: str, user: str) -> str:
    if code == WRONG_PASSWORD:
        return (
            f"The music server does not let {user} in: NAVEMBED_SUBSONIC_USER or NAVEMBED_SUBSONIC_PASSWORD is wrong."
        )
    if code == NO_TOKENS:
        return f"The music server takes no tokens for {user}: name one in NAVEMBED_SUBSONIC_USER that is not of LDAP."
    if code == NOT_ALLOWED:
        return f"The music server does not allow {user} to do this: {told}"
    if code == NOT_FOUND:
        return f"The music server has nothing of this id: {told}"
    return f"The music server refuses: {told or f'error {code}'}"
