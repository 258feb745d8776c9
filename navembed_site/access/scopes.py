"""What a caller may do, and who makes a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from django.db import models

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User
    from rest_framework.request import Request

TRUSTED_PROGRAM = "trusted-program"


class Scope(models.TextChoices):
    """Each scope includes those before it."""

    READ = "read", "read"
    """Look at everything, and search."""
    OPERATE = "operate", "operate"
    """Start and steer jobs."""
    ADMIN = "admin", "admin"
    """Everything."""

    def covers(self, needed: Scope) -> bool:
        scopes = list(Scope)
        return scopes.index(self) >= scopes.index(needed)


@dataclass(frozen=True)
class Caller:
    """Who makes a request: a token, somebody who is signed in, or a program in a trusted network.

    It stands in ``request.auth`` of every DRF view that asks who calls.
    """

    name: str
    """Of the user or the token: what a job's ``started_by`` says."""
    scope: Scope | None
    """None: nothing at all."""
    key: str
    """Tells callers apart, also those of one name."""

    @property
    def is_trusted_program(self) -> bool:
        return self.key == TRUSTED_PROGRAM


def caller_of(request: Request) -> Caller | None:
    """Who makes this request; None for somebody without credentials."""
    caller: Any = request.auth
    return cast("Caller | None", caller)


def caller_name(request: Request) -> str:
    """What ``started_by`` says of a job that this request starts."""
    caller = caller_of(request)
    return caller.name if caller else ""


def scope_of(user: User | AnonymousUser) -> Scope | None:
    """The scope that somebody who is signed in has; None for everybody who may not use the console."""
    if not (user.is_active and user.is_staff):
        return None
    if user.is_superuser or user.has_perm("auth.change_user"):  # who gives roles may give himself any
        return Scope.ADMIN
    return Scope.OPERATE if user.has_perm("batches.add_batchjob") else Scope.READ
