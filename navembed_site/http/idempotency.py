"""``Idempotency-Key``: a caller that never got the answer may send the same request again."""

from __future__ import annotations

import re

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

HEADER = "Idempotency-Key"
VALID = re.compile(r"[\x21-\x7e]{1,200}")


def idempotency_key(request: Request) -> str:
    """Return the key that the request carries, empty without one. Raises ValidationError."""
    key = request.headers.get(HEADER, "")
    if key and not VALID.fullmatch(key):
        raise ValidationError({HEADER: ["must be 1 to 200 printable ASCII characters without spaces"]})
    return key
