"""Who works for this instance: hosts, their devices, and what keeps one from working. Read only."""

from __future__ import annotations

from typing import Any

from django.db.models import Case, When

from batches.engine.hosts import is_here
from batches.models import Device, Host

DEVICE = ("index", "kind", "loaded", "rates", "problem")


def hosts() -> list[dict[str, Any]]:
    """Return every host with its devices, by name, in one query."""
    fields = [f"devices__{field}" for field in DEVICE]
    seen = Case(When(is_here(""), then=True), default=False)
    rows = Host.objects.annotate(is_here=seen).order_by("name", "key", "devices__index")
    found: dict[str, dict[str, Any]] = {}
    for key, name, is_there, seen_at, *device in rows.values_list("key", "name", "is_here", "seen_at", *fields):
        host = found.setdefault(key, {"key": key, "name": name, "is_here": is_there, "seen_at": seen_at, "devices": []})
        if device[0] is not None:
            host["devices"].append(_device(dict(zip(DEVICE, device, strict=True))))
    return list(found.values())


def has_gpu() -> bool:
    """Whether a host that is here has a device that is more than a CPU, also while its embedder is away."""
    return Device.objects.filter(is_here("host__")).exclude(kind__in=["", "cpu"]).exists()


def _device(device: dict[str, Any]) -> dict[str, Any]:
    return device | {"rates": {model: round(rate, 1) for model, rate in device["rates"].items()}}


def host_text(host: dict[str, Any]) -> str:
    """Return a host in a line, for people: ``tower: here; cuda:0 120 × muq``."""
    seen = "here" if host["is_here"] else f"last seen {host['seen_at']:%Y-%m-%d %H:%M} UTC"
    return f"{host['name']}: {seen}; {', '.join(map(device_text, host['devices'])) or 'no devices'}"


def device_text(device: dict[str, Any]) -> str:
    """Return a device for people: its kind, how fast it is, and what keeps it from working."""
    rates = ", ".join(f"{model} {rate:,.0f}×" for model, rate in sorted(device["rates"].items()))
    text = " ".join(filter(None, [device["kind"] or f"device {device['index']}", f"({rates})" if rates else ""]))
    return f"{text}: {device['problem']}" if device["problem"] else text
