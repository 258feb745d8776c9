"""Asks a language model what a file should be called.

The endpoint comes from a request, so it is a way into the network: only hosts that the operator has named are
spoken to, at an address that their name had when it was looked up, and none sends us elsewhere.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings

from embeddings.uploads.names import safe, take, unique
from embeddings.uploads.request import Request, Wishes
from navembed_site.errors import NavembedError
from navembed_site.process.slow_calls import patiently, within

if TYPE_CHECKING:
    import httpx2
    from openai import OpenAI

SECONDS = 45.0
OPENAI = "api.openai.com"
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
MOST_BYTES = 2**20  # of an answer
MOST_SEARCHED = 100_000  # characters, for a title
INSTRUCTION = (
    "You name music files. You are given a file's name and perhaps its tags. Find the artist and the title of the "
    'music, without track numbers, advertising or technical details. Answer with a JSON object {"title": "…"} and '
    'nothing else; its title is the new name, as "Artist - Title", without a suffix.'
)
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "file_name",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"title": {"type": "string"}},
            "required": ["title"],
            "additionalProperties": False,
        },
    },
}


class NotRenamed(NavembedError):
    """The file keeps its name; the message says why, and never holds the key."""


def new_name(request: Request, tags: Mapping[str, str], is_unwanted: Callable[[], bool]) -> str:
    """Return a free and safe base name with the original's suffix; empty when the name is right as it is.

    Raises NotRenamed.
    """
    late = within(SECONDS, NotRenamed(f"the language model did not answer within {SECONDS:.0f} s"))

    def raise_if_stopped() -> None:
        late()
        if is_unwanted():
            raise NotRenamed("nobody waits for it any more")

    title = patiently(partial(_asked, request.name, request.wishes, tags), raise_if_stopped)
    suffix = PurePath(request.name).suffix
    if suffix and title.lower().endswith(suffix.lower()):
        title = title[: -len(suffix)]
    found = safe(title, "") + suffix
    if found == suffix:
        raise NotRenamed("the language model answered with no usable title")
    return "" if found == request.name else unique(found, lambda free: take(free, request))


def base_url(endpoint: str) -> str:
    """Return the endpoint as a client wants it, whether it is given as host, ``/v1`` or in full. Raises NotRenamed."""
    endpoint = endpoint.strip() or f"https://{OPENAI}"
    if "://" not in endpoint:
        scheme = "http" if _host_of(f"http://{endpoint}") in LOOPBACK else "https"
        endpoint = f"{scheme}://{endpoint}"
    host = _host_of(endpoint)
    parts = urlsplit(endpoint if host else "")
    if parts.scheme not in {"http", "https"} or not host or parts.username or parts.password:
        raise NotRenamed("the endpoint is not an address with http or https and a host")
    if not settings.LLM_HOSTS & {host, parts.netloc.lower()}:
        raise NotRenamed(f"{host} is not among the hosts in NAVEMBED_LLM_HOSTS")
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def _host_of(address: str) -> str:
    try:
        parts = urlsplit(address)
        _ = parts.port  # which raises, too
    except ValueError:
        return ""
    return (parts.hostname or "").lower()


def _asked(name: str, wishes: Wishes, tags: Mapping[str, str]) -> str:
    """Return the title that the model answers with. Raises NotRenamed."""
    import openai

    url = base_url(wishes.endpoint)
    if not settings.LLM_KEY and _host_of(url) == OPENAI:
        raise NotRenamed("there is no key: set NAVIDROME_OPENAI_API_KEY")
    is_readable = url.startswith("http:") and _host_of(url) not in LOOPBACK  # by others on its way
    key = "" if is_readable else settings.LLM_KEY
    hints = {field: value for field, value in tags.items() if value} if wishes.use_metadata else {}
    messages = [
        {"role": "system", "content": f"{INSTRUCTION}\n\n{wishes.prompt}".strip()},
        {"role": "user", "content": json.dumps({"file": name, "tags": hints}, ensure_ascii=False)},
    ]
    try:
        with (
            _http_client() as http,
            openai.OpenAI(
                api_key=key or "none", base_url=url, timeout=SECONDS, max_retries=0, http_client=http
            ) as client,
        ):
            return title_in(_answer(client, wishes, messages))
    except openai.APIStatusError as error:
        raise NotRenamed(f"the language model answered with status {error.status_code}") from error
    except openai.OpenAIError as error:
        raise NotRenamed(f"the language model cannot be asked ({type(error).__name__})") from error
    except (OSError, ValueError) as error:
        raise NotRenamed(f"the endpoint cannot be reached ({type(error).__name__})") from error


def _answer(client: OpenAI, wishes: Wishes, messages: list[Any]) -> str:
    """Ask with all that is wished for; a server that does not know it is asked again without."""
    import openai

    model = wishes.model or settings.LLM_MODEL
    extras: dict[str, Any] = {"response_format": SCHEMA}
    if wishes.reasoning:
        extras["reasoning_effort"] = wishes.reasoning
    try:
        answer = client.chat.completions.create(model=model, messages=messages, **extras)
    except (openai.BadRequestError, openai.UnprocessableEntityError):
        answer = client.chat.completions.create(model=model, messages=messages)
    choices = getattr(answer, "choices", None) or []
    return str((choices[0].message and choices[0].message.content) or "") if choices else ""


def title_in(answer: str) -> str:
    """Return the title in the first JSON object that has one, whatever stands around it. Raises NotRenamed."""
    decoder = json.JSONDecoder()
    answer = answer[:MOST_SEARCHED]
    place = answer.find("{")
    while place >= 0:
        try:
            found, _ = decoder.raw_decode(answer, place)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and isinstance(found.get("title"), str) and found["title"].strip():
            return str(found["title"])
        place = answer.find("{", place + 1)
    raise NotRenamed("the language model answered with no title")


def _http_client() -> httpx2.Client:
    """Return a client that follows no redirect, and connects to an address that the host's name has now."""
    import httpx2

    class Pinned(httpx2.HTTPTransport):
        _addresses: Sequence[str] = ()

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            host = request.url.host
            request.extensions = {**request.extensions, "sni_hostname": host}  # the certificate is the name's
            request.headers["Accept-Encoding"] = "identity"  # who knows what the rest unpacks to
            self._addresses = self._addresses or _resolved(host)
            with closing(self._connected(request)) as response:
                if "Content-Encoding" in response.headers:
                    raise httpx2.DecodingError("the answer is compressed")
                body = bytearray()
                for piece in response.iter_raw():
                    body += piece
                    if len(body) > MOST_BYTES:
                        raise httpx2.ReadError("the answer has no end")
            return httpx2.Response(response.status_code, headers=response.headers, content=bytes(body))

        def _connected(self, request: httpx2.Request) -> httpx2.Response:
            *others, last = self._addresses
            for address in others:
                with suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
                    return self._asked(request, address)
            return self._asked(request, last)

        def _asked(self, request: httpx2.Request, address: str) -> httpx2.Response:
            request.url = request.url.copy_with(host=address)
            response = super().handle_request(request)
            self._addresses = [address]
            return response

    return httpx2.Client(transport=Pinned(), timeout=SECONDS, follow_redirects=False, trust_env=False)


def _resolved(host: str) -> list[str]:
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)))
