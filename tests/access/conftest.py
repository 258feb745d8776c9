"""Callers of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.test import Client

from navembed_site.access.scopes import Scope
from navembed_site.access.tokens import create_token

MakeUser = Callable[..., User]


@pytest.fixture(autouse=True)
def nobody_has_called() -> Iterator[None]:
    """What callers are limited by is counted in the cache."""
    cache.clear()
    yield
    cache.clear()


class Program(Client):
    """Calls with a token, from another machine."""

    def __init__(self, secret: str) -> None:
        super().__init__(enforce_csrf_checks=True, REMOTE_ADDR="192.0.2.7", HTTP_AUTHORIZATION=f"Bearer {secret}")


@pytest.fixture
def program(db: None) -> Callable[..., Program]:
    def make(scope: Scope = Scope.READ, name: str = "script", **options: Any) -> Program:
        return Program(create_token(name, scope, created_by="test", **options).secret)

    return make


@pytest.fixture
def user(db: None) -> MakeUser:
    def make(*permissions: str, staff: bool = True, name: str = "anna", password: str | None = None) -> User:
        made = User.objects.create_user(name, password=password, is_staff=staff)
        made.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        return made

    return make


@pytest.fixture
def signed_in() -> Callable[[User], Client]:
    def sign_in(somebody: User) -> Client:
        client = Client(REMOTE_ADDR="192.0.2.7")
        client.force_login(somebody)
        return client

    return sign_in
