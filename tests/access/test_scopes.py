"""What a scope opens: by token, and by signing in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.urls import URLPattern, get_resolver
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from batches.models import BatchJob
from navembed_site.access.scopes import Scope, caller_of
from navembed_site.access.tokens import create_token
from tests.access.conftest import MakeUser, Program

pytestmark = pytest.mark.django_db

URL = "/api/v1/batches"
MakeProgram = Callable[..., Program]
SignIn = Callable[[User], Client]


class Door(APIView):
    """Says who came in."""

    scopes: ClassVar = {"post": Scope.READ, "delete": Scope.ADMIN}

    def get(self, request: Request) -> Response:
        caller = caller_of(request)
        assert caller
        return Response([caller.name, caller.scope])

    post = put = delete = get


class Contract(Door):
    contract = True


def knock(view: type[APIView], method: str, secret: str = "", **headers: str) -> Any:
    credentials = {"HTTP_AUTHORIZATION": f"Bearer {secret}"} if secret else {}
    return view.as_view()(RequestFactory().generic(method, "/", **credentials, **headers))


@pytest.mark.parametrize(
    ("scope", "method", "status"),
    [
        (Scope.READ, "GET", 200), (Scope.READ, "POST", 200), (Scope.READ, "PUT", 403), (Scope.READ, "DELETE", 403),
        (Scope.OPERATE, "GET", 200), (Scope.OPERATE, "PUT", 200), (Scope.OPERATE, "DELETE", 403),
        (Scope.ADMIN, "GET", 200), (Scope.ADMIN, "PUT", 200), (Scope.ADMIN, "DELETE", 200),
    ],
)  # fmt: skip
def test_scope_opens_what_it_covers(scope: Scope, method: str, status: int) -> None:
    secret = create_token("a", scope, created_by="test").secret
    assert knock(Door, method, secret).status_code == status
    assert knock(Contract, method, secret).status_code == status


def test_refusal_says_what_is_needed() -> None:
    secret = create_token("script", Scope.READ, created_by="test").secret
    assert knock(Door, "PUT", secret).data["detail"] == "This needs the scope operate; script has read."


def test_trusted_program_operates() -> None:
    assert knock(Contract, "GET").data == ["http", "operate"]
    assert knock(Contract, "DELETE").status_code == 403
    assert knock(Door, "GET").status_code == 401


def test_reader_starts_nothing(program: MakeProgram) -> None:
    reader = program()
    assert reader.post(URL, "{}", content_type="application/json").status_code == 403
    assert not BatchJob.objects.exists()


def test_operator_starts_a_job_in_its_name(program: MakeProgram) -> None:
    reply = program(Scope.OPERATE, "nightly").post(URL, "{}", content_type="application/json")
    assert (reply.status_code, reply.json()["started_by"]) == (201, "nightly")


def test_program_with_a_token_may_call_the_contract_from_anywhere(program: MakeProgram) -> None:
    assert program().get("/batch/progress").json() == {"status": "no_job"}
    assert program(Scope.OPERATE, "b").post("/batch/start", "{}", content_type="application/json").status_code == 200


# People


@pytest.mark.parametrize(
    ("permissions", "staff", "statuses"),
    [
        ((), False, [403, 403]),
        (("add_batchjob",), False, [403, 403]),
        ((), True, [200, 403]),
        (("add_batchjob",), True, [200, 201]),
    ],
)
def test_people_may_what_the_console_lets_them(
    user: MakeUser, signed_in: SignIn, permissions: tuple[str, ...], staff: bool, statuses: list[int]
) -> None:
    client = signed_in(user(*permissions, staff=staff))
    replies = client.get(URL), client.post(URL, "{}", content_type="application/json")
    assert [reply.status_code for reply in replies] == statuses


def test_superuser_is_admin(signed_in: SignIn) -> None:
    client = signed_in(User.objects.create_superuser("root"))
    assert client.post(URL, "{}", content_type="application/json").json()["started_by"] == "root"


def test_superuser_who_may_not_use_the_console_may_nothing(signed_in: SignIn) -> None:
    root = User.objects.create_superuser("root")
    User.objects.update(is_staff=False)
    assert signed_in(root).get(URL).status_code == 403


def test_disabled_account_opens_nothing(user: MakeUser, signed_in: SignIn) -> None:
    client = signed_in(user())
    User.objects.update(is_active=False)
    assert client.get(URL).status_code == 401


@pytest.mark.parametrize("path", [URL, "/batch/start"])
def test_session_needs_its_csrf_token(user: MakeUser, path: str) -> None:
    client = Client(enforce_csrf_checks=True, REMOTE_ADDR="192.0.2.7")
    client.force_login(user("add_batchjob"))
    assert client.post(path, "{}", content_type="application/json").status_code == 403
    assert not BatchJob.objects.exists()


def test_session_with_its_csrf_token_may_start(user: MakeUser) -> None:
    client = Client(enforce_csrf_checks=True, REMOTE_ADDR="192.0.2.7")
    client.force_login(user("add_batchjob"))
    client.get("/admin/jobs/new")
    token = client.cookies["csrftoken"].value
    assert client.post(URL, "{}", content_type="application/json", headers={"X-CSRFToken": token}).status_code == 201


def test_wrong_token_is_not_forgiven_for_a_session(user: MakeUser, signed_in: SignIn) -> None:
    client = signed_in(user())
    assert client.get(URL, headers={"Authorization": "Bearer nv_x"}).status_code == 401


def addresses(patterns: Iterable[Any], before: str = "/") -> Iterator[str]:
    """Every address that the application answers, but for the console's."""
    for pattern in patterns:
        route = re.sub(r"<uuid:\w+>", str(UUID(int=1)), str(pattern.pattern))
        address = before + re.sub(r"\(\?P<\w+>[^)]*\)|<[^>]+>", "1", route).strip("^$")
        if isinstance(pattern, URLPattern):
            yield address
        elif pattern.app_name not in ("admin", "console"):  # tests/console/test_roles.py asks these
            yield from addresses(pattern.url_patterns, address)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_but_health_is_for_everybody(client: Client, method: str) -> None:
    front_door = {"/", "/admin"}
    known = set(addresses(get_resolver().url_patterns)) - {"/healthz"} - front_door
    known = {path for path in known if not path.startswith("/panel")}  # tests/console/test_roles.py asks these, too
    found = {path: client.generic(method, path, REMOTE_ADDR="192.0.2.7").status_code for path in known}
    assert len(found) > 20
    assert found.pop("/setup/1") == 404
    assert found.pop("/api/docs") == 302
    assert set(found.values()) <= {401, 403}, found
    assert {client.generic(method, path).status_code for path in front_door} <= {404, 405}


@pytest.mark.parametrize("path", ["/admin/", "/admin/access/token/", "/api/docs", "/panel"])
def test_pages_lead_to_the_sign_in(client: Client, path: str) -> None:
    reply = client.get(path)
    assert (reply.status_code, reply["Location"]) == (302, f"/admin/login/?next={path}")


def test_sentences_are_json(client: Client) -> None:
    reply = client.get(URL)
    assert "credentials" in json.loads(reply.content)["detail"]
