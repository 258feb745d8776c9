"""Who may do what: each address of the console, by each method, as each role."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import URLPattern, get_resolver

from embeddings.models import DuplicatePair
from navembed_site.access.models import Token
from navembed_site.access.scopes import Scope, scope_of
from navembed_site.access.tokens import create_token
from tests.batches.rows import make_space
from tests.console.conftest import Person, finished_job

pytestmark = pytest.mark.django_db

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
OWN = ("logout", "login", "password_change")
"""What changes nothing but one's own session or password."""


def addresses() -> list[str]:
    """Every address of the console, with the first row of each kind in it."""
    ours = [each for each in get_resolver().url_patterns if getattr(each, "app_name", "") in ("admin", "console")]
    found = [*_walk(ours), "/panel", "/panel/start", "/panel/cancel"]
    assert len(found) > 45
    return [path for path in found if not any(name in path for name in OWN)]


def _walk(patterns: Any, prefix: str = "/") -> Iterator[str]:
    for pattern in patterns:
        address = prefix + re.sub(r"<path:track_id>|<slug:model>|<[^>]*>|[\^$]|\(.*\)", _fill, str(pattern.pattern))
        if isinstance(pattern, URLPattern):
            yield address
        else:
            yield from _walk(pattern.url_patterns, address)


def _fill(found: re.Match[str]) -> str:
    known = {"<path:track_id>": "a-0", "<slug:model>": "muq", "^": "", "$": ""}
    return known.get(found[0], "auth" if found[0].startswith("(") else "1")


def everything() -> dict[str, list[Any]]:
    """All rows of all tables, but for what Django notes of a session."""
    kept = [
        model for model in apps.get_models() if model._meta.app_label not in ("sessions", "axes", "admin", "django_q")
    ]
    return {model._meta.label: list(model._default_manager.order_by("pk").values()) for model in kept}


def fill() -> None:
    finished_job("a", "b")
    make_space("muq", "k", status="kept")
    make_space("muq", "g", status="building")
    DuplicatePair.objects.create(one_id="a-0", other_id="b-1", similarity={}, same_audio=True)
    create_token("script", Scope.READ, created_by="test")


def test_the_roles_are_there_from_the_first_start() -> None:
    assert sorted(Group.objects.values_list("name", flat=True)) == ["admin", "operator", "viewer"]


@pytest.mark.parametrize(("role", "scope"), [("viewer", "read"), ("operator", "operate"), ("admin", "admin")])
def test_a_role_is_a_scope(person: Person, role: str, scope: str) -> None:
    person(role)
    assert scope_of(User.objects.get(username=f"the {role}")) == scope


@pytest.mark.parametrize("method", METHODS)
def test_a_viewer_changes_nothing(person: Person, method: str) -> None:
    fill()
    viewer = person("viewer")
    before = everything()
    answers = {path: viewer.generic(method, path).status_code for path in addresses()}
    assert {path: code for path, code in answers.items() if code >= 500} == {}
    if method == "POST":
        taken = {path for path, code in answers.items() if code not in (403, 404, 405, 302)}
        assert taken <= {"/admin/search/"}  # only answers
    assert everything() == before


@pytest.mark.parametrize("method", METHODS)
def test_who_is_not_signed_in_sees_nothing(client: Client, method: str) -> None:
    fill()
    answers = {path: client.generic(method, path) for path in addresses()}
    shown = {path: reply.status_code for path, reply in answers.items() if reply.status_code not in (302, 405)}
    assert {path: code for path, code in shown.items() if path != "/admin/jsi18n/"} == {}


@pytest.mark.parametrize("button", ["go-back", "drop", "make-live"])
def test_versions_are_for_admins_to_decide(person: Person, button: str) -> None:
    fill()
    before = everything()
    pk = next(row["id"] for row in before["embeddings.EmbeddingSpace"] if row["status"] == "kept")
    assert person("operator").post(f"/admin/versions/{pk}/{button}").status_code == 403


def test_an_operator_makes_no_users_and_no_tokens(person: Person) -> None:
    operator = person("operator")
    for path in ("/admin/auth/user/add/", "/admin/access/token/add/"):
        assert operator.get(path).status_code == operator.post(path, {}).status_code == 403


def test_an_admin_makes_users_with_a_role(person: Person) -> None:
    secret = "a-long-enough-secret"
    form = {"username": "anna", "role": "operator", "password1": secret, "password2": secret}
    reply = person("admin").post("/admin/auth/user/add/", {**form, "usable_password": "true"})
    assert reply.status_code == 302, reply.context["adminform"].form.errors
    anna = User.objects.get(username="anna")
    assert (anna.is_staff, anna.is_superuser, scope_of(anna)) == (True, False, "operate")


def test_an_admin_changes_no_superuser(person: Person, admin_user: User) -> None:
    admin = person("admin")
    admin.post(f"/admin/auth/user/{admin_user.pk}/change/", {"username": "nobody", "role": "viewer"})
    admin.post(f"/admin/auth/user/{admin_user.pk}/password/", {"password1": "x" * 12, "password2": "x" * 12})
    admin_user.refresh_from_db()
    assert (admin_user.username, admin_user.is_superuser, admin_user.check_password("x" * 12)) == ("admin", True, False)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_changes_need_their_csrf_token(admin_user: User, method: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    fill()
    before = everything()
    assert {client.generic(method, path).status_code for path in addresses()} == {403}
    assert everything() == before


def test_tokens_cannot_be_deleted(admin_client: Client) -> None:
    token = create_token("a", Scope.READ, created_by="test")
    admin_client.post(
        "/admin/access/token/", {"action": "delete_selected", "_selected_action": [token.pk], "post": "yes"}
    )
    assert admin_client.post(f"/admin/access/token/{token.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Token.objects.exists()
