"""Limits on bodies, and on what takes a device's time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client, RequestFactory
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from navembed_site.access.middleware import BodyLimit
from navembed_site.access.scopes import Scope
from navembed_site.access.tokens import create_token
from tests.access.conftest import Program

pytestmark = pytest.mark.django_db

JSON = "application/json"
URL = "/api/v1/batches/dry-run"


# Bodies


def spaces(size: int) -> bytes:
    return b"[" + b" " * (size - 2) + b"]"


def test_contract_takes_sixteen_megabytes(client: Client) -> None:
    assert client.post("/batch/start", spaces(16 * 2**20), content_type=JSON).status_code == 422
    reply = client.post("/batch/start", spaces(16 * 2**20 + 1), content_type=JSON)
    assert (reply.status_code, list(reply.json())) == (413, ["error"])


def test_other_addresses_take_one(program: Callable[..., Program]) -> None:
    caller = program(Scope.OPERATE)
    assert caller.post(URL, spaces(2**20), content_type=JSON).status_code == 400
    reply = caller.post(URL, spaces(2**20 + 1), content_type=JSON)
    assert (reply.status_code, reply["Content-Type"]) == (413, "application/problem+json")


def test_length_alone_is_enough_to_refuse(client: Client) -> None:
    reply = client.generic("POST", "/batch/start", b"", content_type=JSON, CONTENT_LENGTH=str(10**12))
    assert reply.status_code == 413


@pytest.mark.parametrize("path", ["/admin/login/", "/setup/x"])
def test_pages_take_no_large_form(client: Client, path: str) -> None:
    assert client.post(path, {"username": "x" * 2**20}).status_code == 413


def test_view_may_take_more() -> None:
    class Upload(APIView):
        body_limit = 10**9

    request = RequestFactory().post("/", CONTENT_LENGTH=str(10**8))
    assert BodyLimit(lambda _: Response()).process_view(request, Upload.as_view()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"a":' * 200_000, b"[" * 990 + b"]" * 990])
def test_deep_body_is_refused(client: Client, body: bytes) -> None:
    assert client.post("/batch/start", body, content_type=JSON).status_code in {400, 422}


# Rates


class Device(APIView):
    contract = costs_device_time = True

    def get(self, request: Request) -> Response:
        return Response({})


class Cheap(APIView):
    def get(self, request: Request) -> Response:
        return Response({})


def token(name: str) -> str:
    return create_token(name, Scope.READ, created_by="test").secret


def ask(secret: str = "", view: type[APIView] = Device, **headers: str) -> Any:
    credentials = {"HTTP_AUTHORIZATION": f"Bearer {secret}"} if secret else {}
    return view.as_view()(RequestFactory().get("/", **credentials, **headers))


def statuses(times: int, *arguments: Any, **headers: str) -> list[int]:
    return [ask(*arguments, **headers).status_code for _ in range(times)]


def test_token_has_so_many_calls_a_minute_from_all_addresses(settings: Any) -> None:
    settings.RATE_LIMIT = 3
    secret = token("a")
    assert [ask(secret, REMOTE_ADDR=f"192.0.2.{number}").status_code for number in range(4)] == [200] * 3 + [429]
    assert 0 < int(ask(secret)["Retry-After"]) <= 60


def test_address_has_so_many_calls_a_minute_with_all_tokens(settings: Any) -> None:
    settings.RATE_LIMIT = 3
    callers = [token(str(number)) for number in range(4)]
    assert [ask(secret).status_code for secret in callers] == [200] * 3 + [429]
    assert ask(callers[3], REMOTE_ADDR="192.0.2.7").status_code == 200


def test_addresses_that_one_person_may_have_count_as_one(settings: Any) -> None:
    settings.RATE_LIMIT = 1
    here, there = (["127.0.0.1", "127.9.9.9", "::1"], ["2001:db8::1", "2001:db8::ffff:1"])
    for number, addresses in enumerate((here, there)):
        codes = [ask(token(f"{number}-{each}"), REMOTE_ADDR=each).status_code for each in addresses]
        assert codes == [200] + [429] * (len(addresses) - 1)


def test_trusted_program_has_any_number(settings: Any) -> None:
    settings.RATE_LIMIT = 1
    assert statuses(5) == [200] * 5


def test_what_costs_little_is_not_counted(settings: Any) -> None:
    settings.RATE_LIMIT = 1
    assert statuses(5, token("a"), Cheap) == [200] * 5


def test_no_limit_is_configured_by_0(settings: Any) -> None:
    settings.RATE_LIMIT = 0
    assert statuses(5, token("a")) == [200] * 5


def test_refusal_comes_before_counting(settings: Any) -> None:
    settings.RATE_LIMIT = 1
    assert statuses(3, "nv_x") == [401] * 3
    assert ask(token("a")).status_code == 200
