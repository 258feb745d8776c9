"""Tokens of programs."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from navembed_site.access.scopes import Scope


class Token(models.Model):
    """A program's right to call. The secret itself is shown once, when it is made, and kept nowhere."""

    name = models.CharField(max_length=100, help_text="What it is for.")
    scope = models.CharField(
        max_length=10,
        choices=Scope.choices,
        default=Scope.READ,
        help_text="read: look at everything and search; operate: also start and steer jobs; admin: everything.",
    )
    digest = models.CharField(max_length=64, unique=True, editable=False)
    """SHA-256 of the secret in hexadecimal digits: the secret is random, so nothing slower is needed."""
    prefix = models.CharField(max_length=12, editable=False, help_text="How it begins.")
    created_by = models.CharField(max_length=150, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="To the minute.")
    plugin = models.CharField(
        max_length=255,
        blank=True,
        editable=False,
        help_text="Navidrome's plugin that called with it: its version and settings.",
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    revoked = models.BooleanField(default=False, help_text="Cannot be undone.")
    secret = ""
    """Of one that was just made; empty ever after."""

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["name"], condition=models.Q(revoked=False), name="one_token_of_a_name")
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def state(self) -> str:
        if self.revoked:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= timezone.now() else "valid"
