"""A stand-in for a language model: an OpenAI-compatible server on loopback that answers by a rule."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePath
from typing import Any

NO_TITLE = re.compile(r"^\d+[\s._-]+|[(\[].*?[)\]]")


class LanguageModel(ThreadingHTTPServer):
    """Says how a file may be called. ``asked``: the requests so far."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Answer in a thread of its own."""
        thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            self.server_close()
            thread.join()

    def says(self, body: dict[str, Any]) -> str | None:
        """Return the model's answer: the file's name without number, brackets and underscores."""
        name = PurePath(json.loads(body["messages"][1]["content"])["file"]).stem
        return json.dumps({"title": NO_TITLE.sub("", name).replace("_", " ").strip().title()})

    def reply(self, handler: Handler, body: dict[str, Any]) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": self.says(body)}}
        handler.reply(200, {"id": "x", "object": "chat.completion", "choices": [choice]})


class Handler(BaseHTTPRequestHandler):
    server: LanguageModel

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body | {"path": self.path, "host": self.headers["Host"]})
        self.server.reply(self, body)

    def reply(self, status: int, body: dict[str, Any], **headers: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers | {"Content-Type": "application/json", "Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Says nothing."""
