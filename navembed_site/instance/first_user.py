"""The one-time link by which the first user of an instance is made."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from pathlib import Path

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

LINK_SECONDS = 3600


def new_link() -> str | None:
    """Return the path of a new link, which voids older ones; None when there is a user already."""
    if User.objects.exists():
        _digest_path().unlink(missing_ok=True)
        return None
    token = secrets.token_urlsafe(32)
    temporary = _digest_path().with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(_digest(token))
    temporary.replace(_digest_path())
    return reverse("first_user", args=[token])


@never_cache
@sensitive_post_parameters()
def first_user(request: HttpRequest, token: str) -> HttpResponse:
    """Show the form; create a superuser, log it in and go to the console. 404 for a wrong or used link."""
    if not _is_valid(token):
        return _gone(request)
    form = FirstUserForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        return render(request, "first_user.html", {"form": form})
    try:
        _digest_path().unlink()  # only one of two requests can; the other finds none
    except FileNotFoundError:
        return _gone(request)
    login(request, form.save(), backend="django.contrib.auth.backends.ModelBackend")
    return redirect("admin:index")


class FirstUserForm(UserCreationForm):  # type: ignore[type-arg]
    """Name and password, twice; saves a superuser."""

    class Meta(UserCreationForm.Meta):
        model = User

    def save(self, commit: bool = True) -> User:
        self.instance.is_staff = self.instance.is_superuser = True
        user: User = super().save(commit=commit)
        return user


def _gone(request: HttpRequest) -> HttpResponse:
    return render(request, "first_user_gone.html", status=404)


def _is_valid(token: str) -> bool:
    path = _digest_path()
    try:
        expected, made = path.read_text(encoding="ascii"), path.stat().st_mtime
    except FileNotFoundError:
        return False
    matches = secrets.compare_digest(expected, _digest(token))
    return matches and time.time() - made < LINK_SECONDS and not User.objects.exists()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _digest_path() -> Path:
    return Path(settings.NAVEMBED_HOME) / "setup_link"
