"""Guesses at passwords are slowed down, for the name and address that they come from."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.core.management import call_command
from django.test import Client

from navembed_site.access import signin
from tests.access.conftest import MakeUser

pytestmark = [pytest.mark.django_db, pytest.mark.database]

LOGIN = "/admin/login/"


def sign_in(name: str = "anna", password: str = "wrong", address: str = "127.0.0.1") -> Any:
    form = {"username": name, "password": password, "next": "/admin/"}
    return Client().post(LOGIN, form, REMOTE_ADDR=address)


def guess(times: int = 5, **who: str) -> list[int]:
    return [sign_in(**who).status_code for _ in range(times)]


def test_fifth_wrong_password_closes_the_door(user: MakeUser) -> None:
    user(password="right one")
    assert guess() == [200] * 4 + [429]
    reply = sign_in(password="right one")
    assert (reply.status_code, reply["Retry-After"]) == (429, "900")
    assert "Try again in 15 minutes" in " ".join(reply.content.decode().split())
    assert "Access-Control-Allow-Origin" not in reply


def test_others_can_sign_in_from_the_same_address(user: MakeUser) -> None:
    user(name="berta", password="right one")
    guess()
    assert sign_in("berta", "right one").status_code == 302


def test_the_same_name_can_sign_in_from_another_address(user: MakeUser) -> None:
    user(password="right one")
    guess()
    assert sign_in(password="right one", address="192.0.2.9").status_code == 302


def test_right_password_starts_the_count_anew(user: MakeUser) -> None:
    user(password="right one")
    guess(4)
    assert sign_in(password="right one").status_code == 302
    assert guess(4) == [200] * 4


def test_door_opens_again_after_a_while(user: MakeUser) -> None:
    user(password="right one")
    guess()
    for attempt in AccessAttempt.objects.all():
        attempt.attempt_time -= timedelta(minutes=16)
        attempt.save()
    assert sign_in(password="right one").status_code == 302


def test_command_opens_the_door(user: MakeUser) -> None:
    user(password="right one")
    guess()
    call_command("axes_reset_username", "anna", stdout=StringIO())
    assert sign_in(password="right one").status_code == 302


def test_no_password_is_kept(user: MakeUser) -> None:
    user(password="right one")
    sign_in(password="nearly right")
    assert "nearly right" not in str(AccessAttempt.objects.values_list())


@pytest.mark.parametrize("name", ["\0", "x" * 10_000, "ä" * 150, "' OR 1=1 --", "\ud800"])
def test_odd_names_are_only_wrong(name: str) -> None:
    form = f"username={'%00' if name == chr(0) else '%ED%A0%80' if name == chr(0xD800) else name}&password=x"
    reply = Client().post(LOGIN, form.encode(), content_type="application/x-www-form-urlencoded")
    assert reply.status_code == 200


def test_a_network_signs_in_so_often_a_minute_under_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signin.time, "time", lambda: 0.0)
    addresses = [f"2001:db8::{number}" for number in range(signin.A_MINUTE + 1)]
    codes = [sign_in(address, address=address).status_code for address in addresses]
    assert codes == [200] * signin.A_MINUTE + [429]
    assert sign_in("anna", address="2001:db8:0:1::1").status_code == 200


def test_who_comes_through_a_proxy_leaves_places_to_its_own_machine() -> None:
    form = {"username": "anna", "password": "x"}
    codes = {Client(headers={"X-Forwarded-For": "192.0.2.1"}).post(LOGIN, form).status_code for _ in range(50)}
    assert 429 in codes
    assert sign_in("berta", address="127.0.0.2").status_code == 200
