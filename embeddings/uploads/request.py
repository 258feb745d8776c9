"""What is asked of us: a file, how it was called, a CUE sheet, and what is wished for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embeddings.errors import BadUpload
from navembed_site.names import short_text

TRUE = {"true", "1", "yes", "on"}
REASONING = {
    "none": "none", "off": "none", "disabled": "none", "low": "low", "medium": "medium", "high": "high",
}  # fmt: skip
THRESHOLD = 0.85
MOST_PROMPT = 10_000  # characters


@dataclass(frozen=True)
class Wishes:
    """The ``settings`` of a request. What is missing, or makes no sense, is as if it were left out."""

    rename: bool = False
    prompt: str = ""
    endpoint: str = ""
    model: str = ""
    use_metadata: bool = True
    find_duplicates: bool = False
    threshold: float = THRESHOLD
    reasoning: str = ""
    """none, low, medium or high; empty leaves it to the model."""


@dataclass(frozen=True)
class Request:
    """``name`` is what the file was called: a base name, never empty."""

    music_file: Path
    name: str
    cue_file: Path | None = None
    wishes: Wishes = Wishes()


def parse(line: bytes) -> Request:
    """Return what a line of JSON asks for. Raises BadUpload, which says what is wrong with it."""
    try:
        found = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadUpload(f"the request is not one line of JSON: {short_text(error) or type(error).__name__}") from error
    if not isinstance(found, dict):
        raise BadUpload("the request is not a JSON object")
    music_file = _path(found, "music_file")
    if music_file is None:
        raise BadUpload("the request names no music_file")
    name = found.get("name")
    if not isinstance(name, str | None):
        raise BadUpload("name is not a text")
    return Request(music_file, base_name(name or "") or music_file.name, _path(found, "cue_file"), wishes(found))


def base_name(name: str) -> str:
    """Return the last part of a path of Unix or Windows, as it can be shown and stored."""
    return short_text(name.replace("\\", "/").rstrip("/").rpartition("/")[2]).strip()


def wishes(found: Mapping[str, Any]) -> Wishes:
    """Return the wishes in ``settings``."""
    given = found.get("settings")
    given = given if isinstance(given, dict) else {}
    return Wishes(
        rename=_boolean(given.get("renameEnabled"), False),
        prompt=_text(given.get("renamingPrompt"))[:MOST_PROMPT],
        endpoint=_text(given.get("openAiEndpoint")),
        model=_text(given.get("openAiModel")),
        use_metadata=_boolean(given.get("useMetadata"), True),
        find_duplicates=_boolean(given.get("similaritySearchEnabled"), False),
        threshold=_share(given.get("dedupThreshold"), THRESHOLD),
        reasoning=REASONING.get(_text(given.get("reasoningLevel")).lower(), ""),
    )


def _path(found: Mapping[str, Any], field: str) -> Path | None:
    value = found.get(field)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise BadUpload(f"{field} is not a text")
    if not value.startswith("/") or "\0" in value:
        raise BadUpload(f"{field} is not an absolute path")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadUpload(f"{field} is not a text") from None
    return Path(value)


def _boolean(value: object, default: bool) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in TRUE
    return bool(value) if isinstance(value, bool | int) else default


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _share(value: object, default: float) -> float:
    """Return a number between 0 and 1, which may come as a text; what lies beyond is cut off."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return default
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return default
    return min(1.0, max(0.0, number)) if math.isfinite(number) else default
