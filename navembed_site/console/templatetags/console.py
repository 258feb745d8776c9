"""Figures as people read them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from embeddings.encoders.registry import MODEL_KEYS, encoder_class
from navembed_site.console import words
from navembed_site.terminal import size_text

register = template.Library()
SMALL = 100_000  # bytes


@register.filter
def number(value: float | None) -> str:
    """12,345; nothing for None."""
    return "" if value is None else f"{value:,.0f}"


@register.filter
def duration(seconds: float | None) -> str:
    """3 h 12 min; “not known yet” for None."""
    return words.duration(seconds)


@register.filter
def length(seconds: float | None) -> str:
    """3:07, of a track."""
    return words.length(seconds)


@register.filter
def size(value: float | None) -> str:
    """4.2 GB, 37 kB, nothing."""
    if not value:
        return "" if value is None else "nothing"
    return size_text(int(value)) if value >= SMALL else f"{max(1, round(value / 1e3))} kB"


@register.filter
def moment(value: datetime | None) -> SafeString | str:
    """“12 minutes ago”, with the exact time for who points at it."""
    if value is None:
        return ""
    exact = f"{timezone.localtime(value):%A, %-d %B %Y, %H:%M}"
    return format_html('<time datetime="{}" title="{}">{}</time>', value.isoformat(), exact, words.ago(value))


@register.filter
def model_label(key: str) -> str:
    """MuQ-MuLan; what is no model of ours stays as it is."""
    return encoder_class(key).label if key in MODEL_KEYS else key


@register.filter
def plural(count: int, noun: str) -> str:
    """1 track, 2,345 tracks; the plural may be given as “copy,copies”."""
    one, _, many = noun.partition(",")
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


@register.filter
def get(mapping: dict[Any, Any], key: Any) -> Any:
    return mapping.get(key)
