"""Who may use the console. Everything else has pages of its own; Django-Q's rows are nobody's to change."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangosUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from django_q.models import Failure, OrmQ, Schedule, Success
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from navembed_site.console.roles import ADMIN, OPERATOR, VIEWER

for model in (Failure, OrmQ, Schedule, Success, Group, User):
    admin.site.unregister(model)

ROLES = {
    VIEWER: "Viewer: looks at everything, finds and listens",
    OPERATOR: "Operator: also starts and steers jobs",
    ADMIN: "Admin: also decides on versions, users and tokens",
}


class RoleForm(UserChangeForm):  # type: ignore[misc]
    """A user, with one role."""

    role = forms.ChoiceField(choices=list(ROLES.items()), widget=forms.RadioSelect)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if "role" in self.fields and self.instance.pk:
            self.fields["role"].initial = role_of(self.instance)


class NewUserForm(UserCreationForm):  # type: ignore[misc]
    role = forms.ChoiceField(choices=list(ROLES.items()), widget=forms.RadioSelect, initial=VIEWER)


@admin.register(User)
class UserAdmin(DjangosUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    """People. Each may use the console, as much as the role says."""

    form, add_form, change_password_form = RoleForm, NewUserForm, AdminPasswordChangeForm
    list_display = ["username", "role", "is_active", "last_login"]
    list_filter = ["is_active"]
    search_fields = ["username"]
    filter_horizontal = ()
    fieldsets = [(None, {"fields": ["username", "password", "role", "is_active", "last_login"]})]
    add_fieldsets = [(None, {"fields": ["username", "role", "password1", "password2"]})]
    readonly_fields = ["last_login"]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("groups")

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Only who is above everything changes who is."""
        allowed: bool = super().has_change_permission(request, obj)
        return allowed and (obj is None or not obj.is_superuser or request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        allowed: bool = super().has_delete_permission(request, obj)
        return allowed and (obj is None or (obj != request.user and not obj.is_superuser))

    @admin.display(description="Role")
    def role(self, user: User) -> str:
        return role_of(user)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        obj.is_staff = True
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        role = form.cleaned_data.get("role")
        if role and not form.instance.is_superuser:
            form.instance.groups.set(Group.objects.filter(name=role))


def role_of(user: User) -> str:
    """Return the highest of a user's roles."""
    names = {group.name for group in user.groups.all()}
    return ADMIN if user.is_superuser else next((role for role in (ADMIN, OPERATOR) if role in names), VIEWER)
