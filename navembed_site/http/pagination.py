"""Lists come in pages by cursor: nothing is shown twice or left out when rows come and go meanwhile."""

from __future__ import annotations

from base64 import b64decode
from typing import Any, TypeVar, cast

from django.core.exceptions import ValidationError as FieldError
from django.db.models import Field, Model, QuerySet
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.pagination import BasePagination, Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

ModelT = TypeVar("ModelT", bound=Model)


class Pages(CursorPagination):
    """Pages in the order of ``ordering``, whose first field must be indexed together with what is filtered."""

    ordering: str | tuple[str, ...] = "id"
    page_size = 50
    max_page_size = 500
    page_size_query_param = "page_size"
    page_size_query_description = "Entries in a page."
    cursor_query_description = "Where the page begins; part of the addresses in `next` and `previous`."

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> list[Any] | None:
        self._model: type[Model] = queryset.model
        return super().paginate_queryset(queryset, request, view)

    def get_page_size(self, request: Request) -> int:
        given = request.query_params.get(self.page_size_query_param, str(self.page_size))
        size = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
        if not 1 <= size <= self.max_page_size:
            raise ValidationError({"page_size": [f"must be a whole number from 1 to {self.max_page_size}"]})
        return size

    def decode_cursor(self, request: Request) -> Cursor | None:
        encoded = request.query_params.get(self.cursor_query_param)
        try:
            if encoded is not None and not b64decode(encoded, validate=True):
                raise ValueError("empty")
            cursor = super().decode_cursor(request)
            if cursor and cursor.position is not None:
                self._require_value(str(cursor.position))
        except (NotFound, FieldError, ValueError, TypeError) as error:
            raise ValidationError({"cursor": ["is not one that we gave out"]}) from error
        return cursor

    def _require_value(self, position: str) -> None:
        """Raise ValidationError unless ``position`` can be a value of the field that orders the list."""
        field = self._model._meta.get_field(self.ordering[0].lstrip("-"))
        cast("Field[Any, Any]", field).to_python(position)
        if "\0" in position:
            raise ValueError("no database's text holds NUL")

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return _page_schema(schema)

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        cursor, size = super().get_schema_operation_parameters(view)
        size["schema"] = {"type": "integer", "minimum": 1, "maximum": self.max_page_size, "default": self.page_size}
        return [cursor, size]


def page_of(view: GenericAPIView[ModelT], rows: QuerySet[ModelT]) -> Response:
    """Return the page of ``rows`` that the request asks for, as the view's serializer shows them."""
    return view.get_paginated_response(view.get_serializer(view.paginate_queryset(rows), many=True).data)


class OnePage(BasePagination):
    """A short list that needs no cursor, in the same form."""

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"next": None, "previous": None, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return _page_schema(schema)


class NewestFirst(Pages):
    ordering = "-id"


def _page_schema(schema: dict[str, Any]) -> dict[str, Any]:
    link = {"type": ["string", "null"], "format": "uri", "description": "Address of that page, null without one."}
    return {
        "type": "object",
        "required": ["next", "previous", "results"],
        "properties": {
            "next": link | {"example": "http://127.0.0.1:9002/api/v1/…?cursor=cD0xMjM%3D"},
            "previous": link | {"example": None},
            "results": schema,
        },
    }
