"""Pages of the console that only show."""

from __future__ import annotations

from typing import TypeVar

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

ModelT = TypeVar("ModelT", bound=Model)
OTHER_BUTTONS = ("show_save_and_add_another", "show_save_and_continue")


class ReadOnlyAdmin(admin.ModelAdmin[ModelT]):
    """Lists and shows; rows are written by jobs alone."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ModelT | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ModelT | None = None) -> bool:
        return False
