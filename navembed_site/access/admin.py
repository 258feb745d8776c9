"""Tokens in the console: made, looked at, revoked. A secret is shown in the answer to its making, and nowhere else."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.cache import add_never_cache_headers
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from navembed_site.access import tokens
from navembed_site.access.models import Token
from navembed_site.access.scopes import Scope, scope_of

OTHER_BUTTONS = ("show_save_and_add_another", "show_save_and_continue")


class TokenForm(forms.ModelForm):  # type: ignore[type-arg]  # which Django's own does not take
    """What a new token is asked for."""

    expires_days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=tokens.LONGEST_DAYS,
        label="Days",
        help_text="Empty: it never expires.",
        widget=UnfoldAdminIntegerFieldWidget,
    )

    class Meta:
        model = Token
        fields = ["name", "scope"]

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if tokens.is_taken(name):
            raise forms.ValidationError("There is a token of this name; revoke it, or choose another name.")
        return name


@admin.register(Token)
class TokenAdmin(ModelAdmin):  # type: ignore[misc]
    """Programs' tokens: no row is ever edited or deleted."""

    list_display = [
        "name", "prefix", "scope", "state", "last_used_at", "plugin", "expires_at", "created_by", "created_at",
    ]  # fmt: skip
    list_filter = ["scope", "revoked"]
    search_fields = ["name", "prefix", "created_by"]
    fields = readonly_fields = (
        "name",
        "prefix",
        "scope",
        "state",
        "last_used_at",
        "plugin",
        "expires_at",
        "created_by",
    )
    form = TokenForm
    actions = ["revoke"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return scope_of(request.user) is not None and request.user.has_perm("access.add_token")

    def has_change_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("access.change_token")

    def get_fields(self, request: HttpRequest, obj: Token | None = None) -> Any:
        return self.fields if obj else [*TokenForm.Meta.fields, "expires_days"]

    def get_readonly_fields(self, request: HttpRequest, obj: Token | None = None) -> Any:
        return self.readonly_fields if obj else []

    def formfield_for_choice_field(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Nobody gives away more than he has himself."""
        own = scope_of(request.user)
        kwargs["choices"] = [(scope.value, scope.label) for scope in Scope if own and own.covers(scope)]
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """One way to save: each would show the secret."""
        page: HttpResponse = super().add_view(
            request, form_url, dict.fromkeys(OTHER_BUTTONS, False) | (extra_context or {})
        )
        return page

    def save_model(self, request: HttpRequest, obj: Token, form: Any, change: bool) -> None:
        """Make the token; the service makes the row, and ``obj`` becomes it."""
        wanted = form.cleaned_data
        token = tokens.create_token(
            wanted["name"],
            Scope(wanted["scope"]),
            created_by=request.user.get_username(),
            days=wanted["expires_days"],
        )
        obj.pk, obj.prefix, obj.secret = token.pk, token.prefix, token.secret

    def response_add(self, request: HttpRequest, obj: Token, post_url_continue: str | None = None) -> HttpResponse:
        """Show the secret in this very answer: it goes into no cookie, no session and no log."""
        context = {**self.admin_site.each_context(request), "title": "New token", "token": obj, "opts": self.opts}
        page = TemplateResponse(request, "new_token.html", context)
        add_never_cache_headers(page)
        return page

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[Token]) -> None:
        for token in chosen:
            tokens.revoke(token)
            self.message_user(request, f"{token} opens nothing any more.")
