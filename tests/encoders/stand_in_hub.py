"""A hub on loopback, for the real client: it answers as the public one does, with faults when it is told to.

Large files are redirected to another host name, as to the public one's CDN; what "Xet" stores comes through the
client's ``xet_get``, whose transfer alone ``XET_SHIM`` replaces.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from embeddings.weights import published

LARGE = (".bin", ".pt", ".safetensors", "tokenizer.json")
MOVED = {"xlm-roberta-base": "FacebookAI/xlm-roberta-base"}
PIECE = 1_000_000
COMMIT = "c" * 40  # of repositories of which we know no commit
XET_SHIM = """
import shutil, urllib.request
from huggingface_hub import file_download
from huggingface_hub.utils._xet import refresh_xet_connection_info

def xet_get(*, incomplete_path, xet_file_data, headers, **_):
    endpoint = refresh_xet_connection_info(file_data=xet_file_data, headers=headers).endpoint
    with urllib.request.urlopen(f"{endpoint}/{xet_file_data.file_hash}") as source, incomplete_path.open("wb") as file:
        shutil.copyfileobj(source, file)

file_download.xet_get = xet_get
"""


@dataclass
class StoredFile:
    """A file as the hub stores it."""

    path: Path

    @property
    def is_large(self) -> bool:
        return self.path.name.endswith(LARGE)

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @cached_property
    def etag(self) -> str:
        if self.is_large:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha1(b"blob %d\0" % self.size + self.path.read_bytes()).hexdigest()

    @property
    def xet_hash(self) -> str:
        return hashlib.sha256(self.etag.encode()).hexdigest()


@dataclass
class Faults:
    """What goes wrong; nothing, as it comes."""

    status: dict[str, int] = field(default_factory=dict)
    """By repository: the status of every answer."""
    break_off_after: int | None = None
    """The CDN sends so many bytes of a file, then drops the connection."""
    hang_after: int | None = None
    """The CDN sends so many bytes of a file, then nothing more."""
    has_cdn: bool = True
    cdn_requests: int | None = None
    """The CDN answers so many requests, then refuses."""
    is_plain: bool = False
    """It is a server of files, and no hub."""
    damages: bool = False
    """Content arrives with one byte changed."""
    lost_commits: bool = False
    """Only branches are known; the history was rewritten."""


class StandInHub(ThreadingHTTPServer):
    """Serves the files of folders as repositories."""

    daemon_threads = True

    def __init__(self, repositories: dict[str, Path], *, xet: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {
            name: {path.name: StoredFile(path) for path in folder.iterdir()} for name, folder in repositories.items()
        }
        self.xet = xet
        self.faults = Faults()
        self.requests: list[tuple[str, str, str]] = []
        """Method, path and range of every request."""
        self.released = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def cdn(self) -> str:
        return f"http://localhost:{self.server_port}/cdn"

    def commit(self, repository: str) -> str:
        return published.repository(repository).revision or COMMIT

    def stored(self, digest: str) -> StoredFile | None:
        """Find a file by its SHA-256 or Xet hash."""
        every = (file for files in self.files.values() for file in files.values())
        return next((file for file in every if digest in (file.etag, file.xet_hash)), None)

    def asked(self, part: str) -> list[tuple[str, str, str]]:
        """The requests whose path has ``part``."""
        return [request for request in self.requests if part in request[1]]


@contextmanager
def serving(repositories: dict[str, Path], *, xet: bool = False) -> Iterator[StandInHub]:
    with StandInHub(repositories, xet=xet) as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.released.set()
            hub.shutdown()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    """Routes of the public hub that its client uses."""

    server: StandInHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.server.requests.append((self.command, path, self.headers.get("Range", "")))
        routes = {
            r"/cdn/(\w+)": self.send_large,
            r"/api/models/(.+)/xet-read-token/(.+)": self.send_xet_token,
            r"/api/models/(.+?)(?:/revision/(.+))": self.send_info,
            r"/api/models/(.+?)/tree/([^?]+).*": self.send_tree,
            r"/(.+)/resolve/([^/]+|refs/pr/\d+)/(.+)": self.send_file,
        }
        for pattern, route in routes.items():
            if match := re.fullmatch(pattern, path):
                return route(*match.groups())
        return self.answer(404)

    def send_file(self, repository: str, revision: str, name: str) -> None:
        if repository in MOVED:
            return self.answer(307, Location=f"/{MOVED[repository]}/resolve/{revision}/{name}")
        if self.refused(repository, revision):
            return None
        commit = {} if self.server.faults.is_plain else {"X-Repo-Commit": self.server.commit(repository)}
        file = self.server.files[repository].get(name)
        if file is None:
            return self.answer(404, **commit, **{"X-Error-Code": "EntryNotFound"})
        if not file.is_large:
            return self.answer(200, file.path.read_bytes(), ETag=f'"{file.etag}"', **commit)
        headers = commit | {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(file.size)}
        if self.server.xet:
            token = f"{self.server.endpoint}/api/models/{repository}/xet-read-token/{commit['X-Repo-Commit']}"
            headers |= {"X-Xet-Hash": file.xet_hash, "Link": f'<{token}>; rel="xet-auth"'}
        return self.answer(302, Location=f"{self.server.cdn}/{file.etag}", **headers)

    def refused(self, repository: str, revision: str) -> bool:
        """Answer for repositories and revisions that are not there, or not to be shown."""
        if status := self.server.faults.status.get(repository):
            self.answer(status)
        elif repository not in self.server.files:
            self.answer(401, **{"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif revision not in ("main", self.server.commit(repository)) or (
            revision != "main" and self.server.faults.lost_commits
        ):
            self.answer(404, **{"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        else:
            return False
        return True

    def send_large(self, digest: str) -> None:
        file = self.server.stored(digest)
        faults = self.server.faults
        refuses = not faults.has_cdn or len(self.server.asked("/cdn/")) > (faults.cdn_requests or math.inf)
        if file is None or (digest == file.etag and refuses):
            return self.answer(403)
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{file.size - 1}/{file.size}")
        self.send_header("Content-Length", str(file.size - start))
        self.end_headers()
        if self.command == "GET":
            self.send_content(file, start)
        return None

    def send_content(self, file: StoredFile, start: int) -> None:
        faults = self.server.faults
        limit = next((each for each in (faults.break_off_after, faults.hang_after) if each is not None), file.size)
        end = min(file.size, start + limit)
        with file.path.open("rb") as source, suppress(ConnectionError):
            source.seek(start)
            while piece := source.read(min(PIECE, end - source.tell())):
                is_last = source.tell() == file.size
                self.wfile.write(piece[:-1] + bytes([piece[-1] ^ 1]) if faults.damages and is_last else piece)
        if end < file.size:
            self.close_connection = True
            if faults.hang_after is not None:
                self.server.released.wait()

    def send_xet_token(self, _repository: str, _commit: str) -> None:
        token = {"X-Xet-Cas-Url": self.server.cdn, "X-Xet-Access-Token": "t", "X-Xet-Token-Expiration": "9999999999"}
        self.answer(200, b"{}", **token)

    def send_info(self, repository: str, revision: str) -> None:
        if not self.refused(repository, revision):
            siblings = [{"rfilename": name} for name in self.server.files[repository]]
            self.send_json({"id": repository, "sha": self.server.commit(repository), "siblings": siblings})

    def send_tree(self, repository: str, revision: str) -> None:
        if not self.refused(repository, revision):
            self.send_json(
                [_entry(name, file, self.server.xet) for name, file in self.server.files[repository].items()]
            )

    def send_json(self, content: Any) -> None:
        self.answer(200, json.dumps(content).encode(), **{"Content-Type": "application/json"})

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _entry(name: str, file: StoredFile, xet: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": name, "size": file.size, "oid": "0" * 40}
    if file.is_large:
        entry["lfs"] = {"oid": file.etag, "size": file.size, "pointerSize": 134}
        if xet:
            entry["xetHash"] = file.xet_hash
    return entry
