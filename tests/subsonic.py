"""A music server that speaks the Subsonic API, as Navidrome does: what it answers, refuses and keeps."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PASSWORD = "pass wörd"

Form = dict[str, list[str]]


class Failed(Exception):
    """An error of the API: code and message."""


@dataclass
class SubsonicServer:
    """What it holds. ``calls`` are the methods that were asked, with their forms; ``statuses`` break some."""

    url: str = ""
    users: dict[str, str] = field(default_factory=lambda: {"ann": PASSWORD, "bob": "b"})
    admins: set[str] = field(default_factory=set)
    playlists: dict[str, dict[str, Any]] = field(default_factory=dict)
    folders: dict[int, str] = field(default_factory=lambda: {1: "Music"})
    songs: list[dict[str, Any]] = field(default_factory=list)
    """Each with its ``folder``."""
    scan: dict[str, Any] = field(default_factory=lambda: {"scanning": False, "lastScan": "2026-11-27T20:00:00.5Z"})
    granted: dict[str, list[int]] = field(default_factory=dict)
    """Which libraries users may see whom our account may ask about."""
    starred: dict[str, dict[str, str]] = field(default_factory=dict)
    """When users starred which tracks."""
    files: dict[str, Path] = field(default_factory=dict)
    """Music by the track's id."""
    calls: list[tuple[str, Form]] = field(default_factory=list)
    body: bytes = b""
    """Is answered to everything, if there is any."""
    status: int = 200
    location: str = ""

    def names(self) -> list[str]:
        return [method for method, _ in self.calls]

    def add_playlist(self, name: str, owner: str, songs: list[str] = [], **fields: Any) -> str:  # noqa: B006
        found = f"p{len(self.playlists) + 1}"
        # Public unless somebody says otherwise, as Navidrome may be told.
        playlist = {"id": found, "name": name, "owner": owner, "public": True, "songs": [*songs], "comment": ""}
        self.playlists[found] = playlist | fields
        return found

    def answer(self, method: str, form: Form) -> dict[str, Any]:
        return self._answer(method, form, self._signed_in)

    def answer_plugin(self, method: str, form: Form) -> dict[str, Any]:
        """What Navidrome answers a plugin, which acts as a user without a password."""
        return self._answer(method, form, lambda form: form["u"][0])

    def _answer(self, method: str, form: Form, sign_in: Callable[[Form], str]) -> dict[str, Any]:
        self.calls.append((method, form))
        try:
            user = sign_in(form)
            handler = getattr(self, f"on_{method.lower()}", None)
            if handler is None:
                raise Failed(0, f"unknown method {method}")
            content = handler(user, form)
            return {"status": "ok", "version": "1.16.1", "type": "navidrome", **content}
        except Failed as error:
            code, message = error.args
            return {"status": "failed", "version": "1.16.1", "error": {"code": code, "message": message}}

    def _signed_in(self, form: Form) -> str:
        for name in ("u", "t", "s", "v", "c"):
            if name not in form:
                raise Failed(10, f"missing parameter: '{name}'")
        user = form["u"][0]
        token = hashlib.md5(f"{self.users.get(user)}{form['s'][0]}".encode()).hexdigest()
        if user not in self.users or token != form["t"][0]:
            raise Failed(40, "Wrong username or password")
        return user

    def on_ping(self, user: str, form: Form) -> dict[str, Any]:
        return {}

    def on_getplaylists(self, user: str, form: Form) -> dict[str, Any]:
        shown = [_shown(each) for each in self.playlists.values() if each["owner"] == user or each["public"]]
        return {"playlists": {"playlist": shown} if shown else {}}

    def on_createplaylist(self, user: str, form: Form) -> dict[str, Any]:
        songs = form.get("songId", [])
        if "playlistId" in form:
            found = self._writable(user, form["playlistId"][0])
            found["songs"] = songs
        elif "name" in form:
            found = self.playlists[self.add_playlist(form["name"][0], user, songs)]
        else:
            raise Failed(10, "missing parameter: 'name'")
        return {"playlist": _shown(found) | {"entry": [{"id": each} for each in found["songs"]]}}

    def on_updateplaylist(self, user: str, form: Form) -> dict[str, Any]:
        found = self._writable(user, form["playlistId"][0])
        for name in ("name", "comment"):
            if name in form:
                found[name] = form[name][0]
        if "public" in form:
            found["public"] = form["public"][0] == "true"
        return {}

    def on_getplaylist(self, user: str, form: Form) -> dict[str, Any]:
        found = self.playlists.get(form["id"][0])
        if found is None:
            raise Failed(70, "playlist not found")
        return {"playlist": _shown(found) | {"entry": [{"id": each} for each in found["songs"]]}}

    def on_getmusicfolders(self, user: str, form: Form) -> dict[str, Any]:
        return {"musicFolders": {"musicFolder": [{"id": n, "name": name} for n, name in self.folders.items()]}}

    def on_getscanstatus(self, user: str, form: Form) -> dict[str, Any]:
        return {"scanStatus": {"count": len(self.songs), **self.scan}}

    def on_getuser(self, user: str, form: Form) -> dict[str, Any]:
        name = form["username"][0]
        if name not in self.granted:
            raise Failed(50, "user is not authorized for the given operation")
        return {"user": {"username": name, "folder": self.granted[name]}}

    def on_search3(self, user: str, form: Form) -> dict[str, Any]:
        offset, count, folder = (int(form[name][0]) for name in ("songOffset", "songCount", "musicFolderId"))
        found = [song for song in self.songs if song["folder"] == folder][offset : offset + count]
        return {"searchResult3": {"song": found} if found else {}}

    def on_getstarred2(self, user: str, form: Form) -> dict[str, Any]:
        found = [{"id": each, "starred": when} for each, when in self.starred.get(user, {}).items()]
        return {"starred2": {"song": found} if found else {}}

    def on_stream(self, user: str, form: Form) -> dict[str, Any]:
        if form["id"][0] not in self.files:
            raise Failed(70, "data not found")
        assert form["format"] == ["raw"]
        return {"file": self.files[form["id"][0]].read_bytes()}

    def _writable(self, user: str, playlist_id: str) -> dict[str, Any]:
        found = self.playlists.get(playlist_id)
        if found is None:
            raise Failed(70, "playlist not found")
        if found["owner"] != user and user not in self.admins:
            raise Failed(50, "user is not authorized for the given operation")
        if found.get("readonly"):
            raise Failed(50, "playlist is read-only")
        return found


def _shown(playlist: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in playlist.items() if name != "songs"} | {"songCount": len(playlist["songs"])}


@contextmanager
def subsonic_server(server: SubsonicServer) -> Iterator[SubsonicServer]:
    """Serve it on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            method = urlsplit(self.path).path.removeprefix("/music/rest/")
            assert not urlsplit(self.path).query, "addresses end up in logs"
            answer = server.answer(method, parse_qs(body, keep_blank_values=True))
            if "file" in answer:
                self._send(answer["file"], "audio/flac")
            else:
                self._send(server.body or json.dumps({"subsonic-response": answer}).encode(), "application/json")

        def _send(self, body: bytes, kind: str) -> None:
            self.send_response(server.status)
            self.send_header("Content-Type", kind)
            if server.location:
                self.send_header("Location", server.location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # the end waits for them: each closes its connection

        def handle_error(self, request: Any, address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # who has heard enough hangs up
                super().handle_error(request, address)

    with Server(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_port}/music"
        yield server
        http.shutdown()
        thread.join()
