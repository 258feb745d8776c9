"""``manage.py createsuperuser``: Django's, also as the first command in a new instance."""

from __future__ import annotations

from django.contrib.auth.management.commands import createsuperuser

from navembed_site.instance import command


class Command(command.Command, createsuperuser.Command):
    """Makes the first user, or another one, on a terminal."""
