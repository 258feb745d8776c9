"""Tokens in the console."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from navembed_site.access.models import Token
from navembed_site.access.scopes import Scope
from navembed_site.access.tokens import create_token, find_token
from tests.access.conftest import MakeUser, Program

pytestmark = [pytest.mark.django_db, pytest.mark.database]

LIST = "/admin/access/token/"
ADD = f"{LIST}add/"
SignIn = Callable[[User], Client]


def make(client: Client, scope: str = "read", **fields: Any) -> Any:
    return client.post(ADD, {"name": "script", "scope": scope, "expires_days": "", **fields})


def test_new_token_is_shown_once(admin_client: Client) -> None:
    reply = make(admin_client, expires_days="7")
    secret = reply.context["token"].secret
    assert find_token(secret) == Token.objects.get()
    assert reply.content.decode().count(secret) == 2
    assert "no-store" in reply["Cache-Control"]
    for path in (LIST, f"{LIST}{Token.objects.get().pk}/change/", "/admin/"):
        assert secret not in admin_client.get(path).content.decode()
    assert secret not in str(admin_client.cookies)


def test_token_names_its_maker_and_its_end(admin_client: Client) -> None:
    make(admin_client, expires_days="7")
    token = Token.objects.get()
    assert (token.created_by, round((token.expires_at - token.created_at) / timedelta(days=1))) == ("admin", 7)


@pytest.mark.parametrize("fields", [{"expires_days": "0"}, {"expires_days": "x"}, {"scope": "root"}, {"name": ""}])
def test_wrong_form_makes_nothing(admin_client: Client, fields: dict[str, str]) -> None:
    assert make(admin_client, **fields).status_code == 200
    assert not Token.objects.exists()


def test_name_that_is_taken_is_named(admin_client: Client) -> None:
    make(admin_client)
    assert "There is a token of this name" in make(admin_client).content.decode()
    assert Token.objects.count() == 1


def test_list_shows_the_plugin_that_calls(admin_client: Client, program: Callable[..., Program]) -> None:
    program(name="navidrome").get("/api/v1/plugin/status", headers={"User-Agent": "navembed-plugin/0.1.0 (models=muq)"})
    assert "navembed-plugin/0.1.0 (models=muq)" in admin_client.get(LIST).content.decode()


def test_revoke(admin_client: Client) -> None:
    secret = create_token("a", Scope.READ, created_by="test").secret
    admin_client.post(LIST, {"action": "revoke", "_selected_action": [Token.objects.get().pk]})
    assert find_token(secret) is None


def test_tokens_are_not_edited(admin_client: Client) -> None:
    token = create_token("a", Scope.READ, created_by="test")
    admin_client.post(f"{LIST}{token.pk}/change/", {"name": "b", "scope": "admin"})
    token.refresh_from_db()
    assert (token.name, token.scope) == ("a", "read")


@pytest.mark.parametrize(
    ("permissions", "scopes"),
    [(("add_token",), ["read"]), (("add_token", "add_batchjob"), ["read", "operate"]), ((), [])],
)
def test_nobody_gives_away_more_than_he_has(
    user: MakeUser, signed_in: SignIn, permissions: tuple[str, ...], scopes: list[str]
) -> None:
    client = signed_in(user(*permissions))
    for scope in Scope.values:
        make(client, scope, name=scope)
    assert sorted(Token.objects.values_list("scope", flat=True)) == sorted(scopes)


def test_who_may_look_may_not_revoke(user: MakeUser, signed_in: SignIn) -> None:
    secret = create_token("a", Scope.READ, created_by="test").secret
    client = signed_in(user("view_token"))
    assert client.get(LIST).status_code == 200
    client.post(LIST, {"action": "revoke", "_selected_action": [Token.objects.get().pk]})
    assert find_token(secret)
