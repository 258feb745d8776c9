"""Bodies as views may trust them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser


class StrictJSONParser(JSONParser):
    """JSON as everybody understands it: finite numbers, each name once, text that can be sent, and not too deep.

    Its size must fit in memory: a view that takes files takes larger bodies.
    """

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        length = (parser_context or {})["request"].META.get("CONTENT_LENGTH") or 0
        if int(length) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            from navembed_site.http.problems import TooLarge  # which imports views, and these their parsers

            raise TooLarge
        try:
            text = stream.read().decode("utf-8")
            found = json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_each_once)
            if r"\u" in text:
                json.dumps(found, ensure_ascii=False).encode("utf-8")  # half of a surrogate pair is no text
        except ValueError as error:
            raise ParseError(f"JSON parse error - {error}") from error
        except RecursionError as error:
            raise ParseError("JSON parse error - it is nested too deeply") from error
        return found


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _finite(digits: str) -> float:
    """Python reads 1e400 as infinity."""
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice in one object")
    return found
