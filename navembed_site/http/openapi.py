"""The OpenAPI document: what every operation has in common. What is particular stands at views and serializers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema_serializer
from rest_framework import serializers

from navembed_site.http.problems import MEDIA_TYPE, problem

IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    pattern=r"^[\x21-\x7e]{1,200}$",
    description="Any text of your own; sent again with the same body, nothing is started a second time.",
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="The `ETag` of the answer that you have."
)
NOT_MODIFIED = OpenApiResponse(description="Nothing has changed since the answer that you have.")
MEANINGS = {
    400: "The request is wrong; `errors` says which field.",
    401: "No credentials, or none that are valid.",
    403: "The token or user may not do this; it needs another scope.",
    404: "There is no such object.",
    406: "`Accept` names no type that we can answer with.",
    409: "The present state does not allow this; `detail` says why.",
    413: "The body is too large.",
    415: "The body is of a type that we do not read.",
    422: "The body can be read, but not be used; `detail` says why.",
    429: "Too many requests; `Retry-After` says for how many seconds.",
    503: "The database, the embedder or Milvus does not answer now.",
}
ALWAYS = (400, 401, 403, 406, 429, 503)
WITH_BODY = (409, 413, 415, 422)


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            f"{code} {HTTPStatus(code).phrase}",
            problem(code, MEANINGS[code], "/api/v1/…", errors={"models.0": ["…"]} if code == 400 else None),
            media_type=MEDIA_TYPE,
            status_codes=[str(code)],
        )
        for code in MEANINGS
    ]
)
class ProblemSerializer(serializers.Serializer[dict[str, Any]]):
    """What went wrong (RFC 9457)."""

    type = serializers.CharField(help_text="What kind of problem; for programs.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="A sentence about this very problem; for people.")
    instance = serializers.CharField(  # type: ignore[assignment]  # the standard's name; fields are kept apart
        help_text="The address that was asked for."
    )
    errors = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="Sentences by the field that they are about; `models.0` is the first of `models`.",
    )


class ContractErrorSerializer(serializers.Serializer[dict[str, Any]]):
    """What went wrong, in a sentence."""

    error = serializers.CharField()


class Schema(AutoSchema):
    """Adds the answers that every operation may give instead of its own."""

    def get_tags(self) -> list[str]:
        return ["contract"] if self._is_contract else super().get_tags()

    def get_auth(self) -> list[dict[str, list[str]]]:
        """Trusted networks stand as no credentials at all (docs/security.md)."""
        return [{"token": []}, {"session": []}, *([{}] if self._is_contract else [])]

    def get_operation_id(self) -> str:
        """The contract has paths that end like ours."""
        path = self.path.strip("/").replace("/", "_").replace("{", "").replace("}", "")
        return f"contract_{path}" if self._is_contract else super().get_operation_id()

    def get_summary(self) -> str:
        """The first sentence."""
        return str(super().get_description()).partition("\n")[0].rstrip(".")

    def get_description(self) -> str:  # type: ignore[override]  # as drf-spectacular has it
        """End with the scope that the operation needs."""
        if not self.view.get_authenticators():
            return str(super().get_description())
        permission: Any = self.view.get_permissions()[0]
        scope = permission.needed(self.view.request, self.view)
        return f"{super().get_description()}\n\nScope: `{scope}`"

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        for code in self._errors():
            if str(code) not in bodies:
                bodies[str(code)] = self._error(code)
        return dict(sorted(bodies.items()))

    def _errors(self) -> list[int]:
        if not self.view.get_authenticators():
            return []
        codes = [*ALWAYS, *(WITH_BODY if self.method != "GET" else ())]
        return sorted([*codes, 404] if "{" in self.path else codes)

    def _error(self, code: int) -> dict[str, Any]:
        kind = ContractErrorSerializer if self._is_contract else ProblemSerializer
        answer = OpenApiResponse(kind, MEANINGS[code])
        media_type = "application/json" if self._is_contract else MEDIA_TYPE
        body: dict[str, Any] = self._get_response_for_code(  # type: ignore[no-untyped-call]
            answer, str(code), [media_type]
        )
        return body

    @property
    def _is_contract(self) -> bool:
        return bool(getattr(self.view, "contract", False))
