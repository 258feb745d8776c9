"""Whose calls without credentials are taken for Navidrome's server's, and whose are not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from batches.models import BatchJob
from navembed_site import environment
from navembed_site.http import sockets

pytestmark = pytest.mark.django_db

JSON = "application/json"
GO = {"HTTP_HOST": "127.0.0.1:9002", "HTTP_USER_AGENT": "Go-http-client/1.1", "HTTP_ACCEPT_ENCODING": "gzip"}


def start(content_type: str | None = JSON, body: bytes = b'{"models": ["muq"]}', **headers: str) -> Any:
    """``POST /batch/start`` as the Go server sends it, but for ``headers``."""
    extra = {"CONTENT_TYPE": content_type} if content_type else {}
    reply = Client().generic("POST", "/batch/start", body, content_type=content_type or "", **GO | extra | headers)
    assert isinstance(reply.json(), dict)
    return reply


def refused(reply: Any, status: int = 403) -> None:
    assert (reply.status_code, list(reply.json())) == (status, ["error"]), reply.content
    assert not BatchJob.objects.exists()


# The connection's address


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_this_machine_is_trusted(address: str) -> None:
    assert start(REMOTE_ADDR=address).status_code == 200


@pytest.mark.parametrize(
    "address",
    ["192.168.1.7", "10.0.0.1", "172.17.0.2", "8.8.8.8", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "::127.0.0.1",
     "fe80::1", "fe80::1%eth0", "", "localhost", "127.0.0.1:80", "127.1", "0x7f.0.0.1", "2130706433", "0.0.0.0",
     "::"],
)  # fmt: skip
def test_other_addresses_are_not(address: str) -> None:
    refused(start(REMOTE_ADDR=address))


def test_a_connection_without_an_address_is_not() -> None:
    class OnSocket(Client):
        def _base_environ(self, **request: Any) -> dict[str, Any]:
            environ: dict[str, Any] = super()._base_environ(**request)
            del environ["REMOTE_ADDR"]
            return environ

    refused(OnSocket().post("/batch/start", "{}", content_type=JSON))


@pytest.mark.parametrize(("address", "status"), [("172.18.0.2", 200), ("172.18.0.3", 403), ("127.0.0.1", 403)])
def test_configured_networks_take_the_place_of_this_machine(settings: Any, address: str, status: int) -> None:
    settings.TRUSTED_NETWORKS = environment.networks("172.18.0.2/32")
    assert start(REMOTE_ADDR=address).status_code == status


def test_nobody_is_trusted_when_it_is_none(settings: Any) -> None:
    settings.TRUSTED_NETWORKS = environment.networks("none")
    refused(start())


# Proxies


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server",
     "Forwarded", "X_Forwarded_For", "x-forwarded-for", "X-Real-IP", "Via", "CF-Connecting-IP", "CF-Ray",
     "True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP", "Fastly-Client-IP", "Fly-Client-IP", "X-Original-URL",
     "X-Envoy-External-Address", "X-Azure-ClientIP", "X-Amzn-Trace-Id", "CDN-Loop", "Tailscale-User-Login",
     "X-Forwarded", "Forwarded-For"],
)  # fmt: skip
@pytest.mark.parametrize("value", ["127.0.0.1", ""])
def test_what_comes_through_a_proxy_is_not_trusted(header: str, value: str) -> None:
    refused(start(**{f"HTTP_{header.upper().replace('-', '_')}": value}))


@pytest.mark.parametrize("protocol", ["HTTP/1", "HTTP/1.0"])
def test_what_speaks_the_protocol_of_proxies_is_not_trusted(protocol: str) -> None:
    refused(start(SERVER_PROTOCOL=protocol))


def test_a_public_name_from_this_machine_is_a_proxys(settings: Any) -> None:
    settings.OUR_HOSTS = [*settings.OUR_HOSTS, "music.example.org"]
    refused(start(HTTP_HOST="music.example.org"))
    assert Client().get("/admin/login/", HTTP_HOST="music.example.org").status_code == 200


def test_a_container_calls_by_a_name_that_is_allowed(settings: Any) -> None:
    settings.TRUSTED_NETWORKS = environment.networks("172.18.0.0/16")
    settings.OUR_HOSTS = [*settings.OUR_HOSTS, "navembed"]
    assert start(HTTP_HOST="navembed:9002", REMOTE_ADDR="172.18.0.2").status_code == 200


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "localhost.", "localhost.:9002", "192.168.1.5:9002", "0.0.0.0", "[::]:9002", "127.0.0.1."]
)
def test_a_proxy_that_hands_on_the_name_is_not_trusted(host: str) -> None:
    refused(start(HTTP_HOST=host))
    assert Client().get("/admin/login/", HTTP_HOST=host).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("172.18.0.9:9002", 200),
        ("172.18.0.8:9002", 403),
        ("8.8.8.8", 403),
        ("navembed.:9002", 403),
        ("navembed", 200),
        ("0.0.0.0", 403),
    ],
)
def test_a_container_calls_by_the_address_that_it_connects_to(settings: Any, host: str, status: int) -> None:
    settings.TRUSTED_NETWORKS = environment.networks("172.18.0.0/16")
    settings.OUR_HOSTS = [*settings.OUR_HOSTS, "navembed", "0.0.0.0"]
    reply = start(HTTP_HOST=host, REMOTE_ADDR="172.18.0.2", **{sockets.CALLED: "::ffff:172.18.0.9"})
    assert reply.status_code == status


# Web pages


@pytest.mark.parametrize("host", ["localhost:9002", "127.0.0.1", "[::1]:9002", "127.0.0.2:9002", "LOCALHOST"])
def test_our_names(host: str) -> None:
    assert start(HTTP_HOST=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example:9002", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1,evil.example",
     "evil@127.0.0.1", "", "[::1", "127.0.0.1 evil", "a" * 300, "2130706433", "0x7f000001", "127.1",
     "xn--lcalhost-b4a"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/batch/start", "/batch/progress", "/admin/login/", "/nothing"])
def test_a_name_that_was_rebound_to_us_opens_nothing(host: str, path: str) -> None:
    reply = Client().post(path, "{}", content_type=JSON, HTTP_HOST=host)
    assert reply.status_code == 400
    assert not BatchJob.objects.exists()


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "", "http://localhost:4533", "http://127.0.0.1:4533", "https://127.0.0.1:9002",
     "http://127.0.0.1:9002.evil.example", "http://127.0.0.1:9002@evil.example", "http://127.0.0.1:9002/",
     "file://", "chrome-extension://abc", "http://127.0.0.1:9002,http://evil.example", "127.0.0.1:9002",
     "http://127.0.0.1"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
def test_a_page_of_another_address_may_call_nothing(origin: str, method: str) -> None:
    path = "/batch/progress" if method == "GET" else "/batch/start"
    refused(Client().generic(method, path, b"{}", content_type=JSON, **GO, HTTP_ORIGIN=origin))


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "unknown"])
def test_a_browser_that_tells_of_another_page_is_believed(site: str) -> None:
    refused(start(HTTP_SEC_FETCH_SITE=site))
    refused(Client().get("/batch/progress", **GO, HTTP_SEC_FETCH_SITE=site))


def test_our_own_pages_may_call() -> None:
    assert start(HTTP_ORIGIN="http://127.0.0.1:9002", HTTP_SEC_FETCH_SITE="same-origin").status_code == 200


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "text/plain; application/json", "application/x-www-form-urlencoded",
     "multipart/form-data; boundary=x", "text/json", "TEXT/PLAIN", "application/json, text/plain",
     "application/jsonx", "*/*", "application/octet-stream"],
)  # fmt: skip
@pytest.mark.parametrize("body", [b'{"models": ["muq"]}', b""])
def test_what_a_form_can_send_starts_nothing(kind: str, body: bytes) -> None:
    refused(start(kind, body))


def test_a_body_of_no_type_starts_nothing() -> None:
    refused(start(None, b"{}"))


@pytest.mark.parametrize("kind", [JSON, "application/json; charset=utf-8", "Application/JSON", None])
def test_no_body_is_fine(kind: str | None) -> None:
    assert start(kind, b"").status_code == 200


def test_there_is_nothing_for_a_preflight_to_find() -> None:
    headers = {"HTTP_ORIGIN": "https://evil.example", "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST"}
    reply = Client().options("/batch/start", **GO, **headers)
    assert not [name for name in reply.headers if name.lower().startswith("access-control")]


# Credentials


@pytest.mark.parametrize("header", ["Bearer nv_wrong", "Bearer", "Bearer ", "bearer x", "Basic YTpi", "nv_x", ""])
def test_wrong_credentials_are_not_forgiven_to_a_trusted_program(header: str) -> None:
    reply = start(HTTP_AUTHORIZATION=header)
    refused(reply, 401)
    assert reply["WWW-Authenticate"] == 'Bearer realm="navembed"'


@pytest.mark.parametrize("path", ["/api/v1/batches", "/api/v1/batches/1", "/api/schema"])
def test_trust_ends_at_the_contract(path: str) -> None:
    reply = Client().get(path, **GO)
    assert (reply.status_code, json.loads(reply.content)["status"]) == (401, 401)


def test_a_trusted_call_asks_no_database(django_assert_num_queries: Any) -> None:
    client = Client(headers={"Cookie": "sessionid=" + "x" * 32})
    with django_assert_num_queries(0):
        assert client.post("/batch/start", "[]", content_type=JSON).status_code == 422


@pytest.mark.parametrize("host", ["evil.example", "", "a,b", "localhost"])
def test_health_answers_under_any_name(host: str) -> None:
    reply = Client().get("/healthz", HTTP_HOST=host, REMOTE_ADDR="8.8.8.8", HTTP_AUTHORIZATION="Bearer x")
    assert (reply.status_code, reply.json()) == (200, {"status": "ok"})
