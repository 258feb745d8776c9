"""The one-time link for the first user."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from navembed_site.instance import first_user

pytestmark = [pytest.mark.django_db, pytest.mark.database]
FORM = {"username": "anna", "password1": "correct horse", "password2": "correct horse"}


@pytest.fixture
def link() -> str:
    path = first_user.new_link()
    assert path
    return path


def test_link_makes_a_superuser_who_is_signed_in(client: Client, link: str) -> None:
    reply = client.post(link, FORM)
    assert (reply.status_code, reply["Location"]) == (302, "/admin/")
    assert client.get("/admin/").status_code == 200
    assert User.objects.get().is_superuser


def test_link_works_once(client: Client, link: str) -> None:
    client.post(link, FORM)
    assert Client().post(link, {**FORM, "username": "eve"}).status_code == 404
    assert User.objects.count() == 1


def test_of_two_requests_that_saw_a_valid_link_one_gets_it(
    client: Client, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_user, "_is_valid", lambda token: True)  # both have passed the first look
    client.post(link, FORM)
    assert Client().post(link, {**FORM, "username": "eve"}).status_code == 404
    assert User.objects.count() == 1


def test_mistyped_password_leaves_the_link_usable(client: Client, link: str) -> None:
    assert client.post(link, {**FORM, "password2": "other"}).status_code == 200
    assert client.post(link, FORM).status_code == 302


def test_wrong_link_is_not_found(client: Client, link: str) -> None:
    assert client.get(f"{link}x").status_code == 404


def test_link_expires(client: Client, link: str) -> None:
    hour_ago = time.time() - first_user.LINK_SECONDS - 1
    os.utime(settings.NAVEMBED_HOME / "setup_link", (hour_ago, hour_ago))
    assert client.get(link).status_code == 404


def test_new_link_voids_the_one_before(client: Client, link: str) -> None:
    newer = first_user.new_link()
    assert client.get(link).status_code == 404
    assert client.get(newer or "").status_code == 200


def test_no_link_once_there_is_a_user() -> None:
    User.objects.create_user("anna")
    assert first_user.new_link() is None


def test_link_is_kept_as_a_digest_only_its_owner_can_read(link: str) -> None:
    path: Path = settings.NAVEMBED_HOME / "setup_link"
    assert link.rpartition("/")[2] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
