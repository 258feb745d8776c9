"""Tokens: made, shown once, found, noted, expired, revoked."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from navembed_site.access import tokens
from navembed_site.access.models import Token
from navembed_site.access.scopes import Scope
from tests.access.conftest import Program

pytestmark = [pytest.mark.django_db, pytest.mark.database]

URL = "/api/v1/batches"
MakeProgram = Callable[..., Program]


def status(caller: Program) -> int:
    return int(caller.get(URL).status_code)


def test_program_with_a_token_may_call(program: MakeProgram) -> None:
    assert status(program()) == 200


def test_secret_is_not_kept(program: MakeProgram) -> None:
    token = tokens.create_token("a", Scope.READ, created_by="test")
    row = Token.objects.values_list().get()
    assert token.secret not in str(row)
    assert Token.objects.get().secret == ""


def test_secrets_are_long_and_all_different() -> None:
    secrets = {tokens.create_token(str(number), Scope.READ, created_by="test").secret for number in range(20)}
    assert len(secrets) == 20
    assert all(tokens.SECRET.fullmatch(secret) for secret in secrets)


@pytest.mark.parametrize(
    "change",
    [lambda secret: secret[:-1], lambda secret: f"{secret}x", lambda secret: secret[:-1] + "!", str.upper,
     lambda secret: f"nv_{'a' * 43}", lambda secret: "", lambda secret: f"{secret},Bearer {secret}",
     lambda secret: "nv_" + "é" * 43],
)  # fmt: skip
def test_wrong_token_opens_nothing(change: Callable[[str], str]) -> None:
    secret = tokens.create_token("a", Scope.ADMIN, created_by="test").secret
    reply = Program(change(secret)).get(URL)
    assert (reply.status_code, reply["WWW-Authenticate"]) == (401, 'Bearer realm="navembed"')


def test_hash_of_a_token_is_no_token() -> None:
    tokens.create_token("a", Scope.ADMIN, created_by="test")
    assert status(Program(Token.objects.get().digest)) == 401


def test_revoked_token_opens_nothing(program: MakeProgram) -> None:
    caller = program()
    tokens.revoke(Token.objects.get())
    assert status(caller) == 401


def test_what_another_process_revokes_opens_nothing_a_moment_later(program: MakeProgram) -> None:
    caller = program()
    assert status(caller) == 200
    Token.objects.update(revoked=True)
    assert status(caller) == 200
    time.sleep(tokens.FRESH_SECONDS)
    assert status(caller) == 401


def test_new_token_is_known_although_it_was_just_asked_for() -> None:
    secret = f"nv_{'b' * 43}"
    assert tokens.find_token(secret) is None
    Token.objects.create(name="b", scope=Scope.READ, digest=tokens._digest(secret))
    time.sleep(tokens.FRESH_SECONDS)
    assert tokens.find_token(secret)


def test_token_expires(program: MakeProgram) -> None:
    caller = program(days=1)
    Token.objects.update(expires_at=timezone.now())
    assert status(caller) == 401


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_scheme_in_any_letters(scheme: str) -> None:
    secret = tokens.create_token("a", Scope.READ, created_by="test").secret
    caller = Program("")
    assert caller.get(URL, HTTP_AUTHORIZATION=f"{scheme} {secret}").status_code == 200


def test_token_in_the_address_is_none() -> None:
    secret = tokens.create_token("a", Scope.READ, created_by="test").secret
    assert Program("").get(URL, {"token": secret, "access_token": secret}).status_code == 401


def test_name_is_free_again_after_revoking() -> None:
    tokens.create_token("a", Scope.READ, created_by="test")
    with pytest.raises(tokens.NameTaken, match="'a'"):
        tokens.create_token("a", Scope.READ, created_by="test")
    tokens.revoke(Token.objects.get())
    tokens.create_token("a", Scope.READ, created_by="test")


# The last use


def test_last_use_is_noted_once_a_minute(program: MakeProgram) -> None:
    caller = program()
    status(caller)
    first = Token.objects.get().last_used_at
    status(caller)
    assert first
    assert Token.objects.get().last_used_at == first
    Token.objects.update(last_used_at=first - timedelta(minutes=2))
    tokens._read.cache_clear()
    status(caller)
    assert Token.objects.get().last_used_at > first - timedelta(minutes=1)


@pytest.mark.django_db(transaction=True)
def test_busy_database_keeps_nobody_waiting(program: MakeProgram) -> None:
    if connection.vendor != "sqlite":
        return
    caller = program()
    with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert status(caller) == 200
    assert Token.objects.get().last_used_at is None
    assert status(caller) == 200
    assert Token.objects.get().last_used_at


@pytest.mark.django_db(transaction=True)
def test_waiting_for_others_goes_on_as_before(program: MakeProgram) -> None:
    if connection.vendor != "sqlite":
        return
    status(program())
    with connection.cursor() as cursor:
        assert cursor.execute("PRAGMA busy_timeout").fetchone()[0] == 30_000


# The commands


def command(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_command_prints_a_token_that_works() -> None:
    secret = command("create_token", "script", "--scope", "read", "--expires-days", "30").strip()
    assert status(Program(secret)) == 200
    token = Token.objects.get()
    assert (token.name, token.scope, token.created_by) == ("script", "read", "create_token")
    assert timedelta(days=29) < token.expires_at - timezone.now() < timedelta(days=31)


@pytest.mark.parametrize("days", ["0", "-1", "40000"])
def test_command_refuses_odd_times(days: str) -> None:
    with pytest.raises(CommandError, match="--expires-days must be"):
        command("create_token", "script", "--scope", "read", f"--expires-days={days}")


def test_command_refuses_a_name_that_is_taken() -> None:
    command("create_token", "script", "--scope", "read")
    with pytest.raises(CommandError, match="There is a token named 'script'"):
        command("create_token", "script", "--scope", "admin")


def test_command_lists_and_revokes() -> None:
    secret = command("create_token", "script", "--scope", "operate").strip()
    assert "operate, valid, never used, made by create_token" in command("tokens")
    assert command("tokens", "--revoke", "script") == f"script ({secret[:8]}…) is revoked.\n"
    assert "operate, revoked" in command("tokens")
    with pytest.raises(CommandError, match="no token named 'script'"):
        command("tokens", "--revoke", "script")


def test_secret_key_is_for_its_owner_alone(settings: Any) -> None:
    path: Path = settings.NAVEMBED_HOME / "secret_key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_text()) >= 50
