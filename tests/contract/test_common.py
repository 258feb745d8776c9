"""What holds for every call: addresses, connections, sizes and the form of replies."""

from __future__ import annotations

import json

import pytest

from tests.contract.client import GoClient, Reply
from tests.contract.conftest import EVERYWHERE

POSTS = ("/embed_text", "/playlist/custom", "/batch/start", "/batch/cancel")
GETS = ("/batch/progress", "/healthz", "/health", "/models")
ROUTES = [("POST", path) for path in POSTS] + [("GET", path) for path in GETS]
MEGABYTE = 2**20
QUIET = [("GET", path) for path in GETS] + [("POST", "/embed_text"), ("POST", "/playlist/custom")]
"""Routes whose call changes nothing."""
BODIES = {"/embed_text": {"text": "slow piano", "model": "muq"}, "/playlist/custom": {"seeds": []}}


def call(client: GoClient, method: str, path: str, **headers: str) -> Reply:
    body = json.dumps(BODIES.get(path, {})).encode() if method == "POST" else None
    return client.call(method, path, body, **headers)


@pytest.mark.parametrize(("method", "path"), QUIET)
@EVERYWHERE
def test_both_ports_answer_everything_with_json(client: GoClient, method: str, path: str) -> None:
    reply = call(client, method, path)
    assert (reply.status, reply.is_json) == (200, True), reply
    assert isinstance(reply.json, list if path == "/models" else dict)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_trailing_slash_is_another_address_and_no_redirect(client: GoClient, method: str, path: str) -> None:
    reply = call(client, method, f"{path}/")
    assert (reply.status, reply.headers["Location"]) == (404, None)


@pytest.mark.parametrize(
    "path", ["//batch/progress", "/batch//progress", "/Batch/progress", "/batch", "/playlist", "/"]
)
def test_other_addresses_are_not_found_and_never_redirected(client: GoClient, path: str) -> None:
    reply = client.get(path)
    assert (reply.status, reply.headers["Location"]) == (404, None)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_other_methods_are_refused_in_json(client: GoClient, method: str, path: str) -> None:
    reply = client.call("DELETE", path)
    assert (reply.status, reply.is_json) == (405, True)
    assert isinstance(reply.json, dict)


@EVERYWHERE
def test_a_connection_is_kept_from_call_to_call(client: GoClient) -> None:
    local_ports = set()
    for method, path in QUIET * 3:
        call(client, method, path)
        local_ports.add(client.local_port)
    assert len(local_ports) == 1


@EVERYWHERE
def test_a_refused_call_does_not_cost_the_connection(client: GoClient) -> None:
    client.get("/healthz")
    before = client.local_port
    assert client.post("/batch/start", {"models": ["vggish"]}).status == 422
    assert client.get("/nowhere").status == 404
    assert (client.get("/healthz").status, client.local_port) == (200, before)


@pytest.mark.parametrize(("method", "path"), QUIET)
def test_no_cookie_is_set(client: GoClient, method: str, path: str) -> None:
    assert call(client, method, path).headers["Set-Cookie"] is None


@pytest.mark.parametrize("coding", ["gzip", "identity", "gzip, deflate, br", "*", ""])
def test_any_accepted_coding_can_be_read(client: GoClient, coding: str) -> None:
    reply = client.call("GET", "/batch/progress", **{"Accept-Encoding": coding})
    assert reply.headers["Content-Encoding"] in ((None, "gzip") if "gzip" in coding else (None,))
    assert "status" in reply.json


@pytest.mark.parametrize("accept", ["*/*", "text/html,application/xhtml+xml,*/*;q=0.8", "application/json"])
def test_any_accepted_type_gets_json(client: GoClient, accept: str) -> None:
    reply = client.call("GET", "/batch/progress", Accept=accept)
    assert (reply.status, reply.is_json) == (200, True)


@pytest.mark.parametrize("path", ["/embed_text", "/playlist/custom"])
def test_bodies_up_to_16_megabytes_are_read(client: GoClient, path: str) -> None:
    frame = json.dumps(BODIES[path] | {"more": ""})
    body = frame.replace('""}', f'"{"x" * (16 * MEGABYTE - len(frame))}"}}').encode()
    assert len(body) == 16 * MEGABYTE
    assert client.call("POST", path, body).status == 200


@pytest.mark.parametrize("path", ["/embed_text", "/playlist/custom", "/batch/start"])
def test_larger_bodies_are_refused_and_the_server_goes_on(client: GoClient, path: str) -> None:
    body = json.dumps({"more": "x" * 16 * MEGABYTE}).encode()
    try:
        assert client.call("POST", path, body).status == 413
    except (ConnectionResetError, BrokenPipeError):  # it need not read what it refuses
        client.close()
    assert client.get("/healthz").json["status"] == "ok"


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_is_no_json_is_refused_in_json(client: GoClient, path: str) -> None:
    if path == "/batch/cancel":
        return  # asks for no body
    reply = client.call("POST", path, b"{")
    assert (reply.status in (400, 422), reply.is_json) == (True, True)
    assert isinstance(reply.json["error"], str)
