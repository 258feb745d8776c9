"""Viewer, operator and admin: groups that exist from the first start."""

from __future__ import annotations

from typing import Any

from django.apps import apps

VIEWER, OPERATOR, ADMIN = "viewer", "operator", "admin"
LOOKED_AT = ("batches", "embeddings")
"""Apps whose rows everybody may look at who may use the console."""


def make_roles(using: str, **_: Any) -> None:
    """Make the groups with what each may do; groups of other names stay as they are."""
    from django.contrib.auth.management import create_permissions
    from django.contrib.auth.models import Group, Permission

    for config in apps.get_app_configs():  # ours may be migrated before theirs
        create_permissions(config, verbosity=0, using=using)
    permissions = Permission.objects.using(using)
    looking = permissions.filter(content_type__app_label__in=LOOKED_AT, codename__startswith="view_")
    operating = permissions.filter(content_type__app_label="batches", codename="add_batchjob")
    access = permissions.filter(content_type__app_label__in=("access", "auth"))
    spaces = permissions.filter(content_type__app_label="embeddings", codename="change_embeddingspace")
    for name, may in (
        (VIEWER, looking),
        (OPERATOR, looking | operating),
        (ADMIN, looking | operating | access | spaces),
    ):
        group, _made = Group.objects.using(using).get_or_create(name=name)
        group.permissions.set(may)
