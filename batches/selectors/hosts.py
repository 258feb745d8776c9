"""Who works for this instance: hosts, their devices, and what keeps one from working. Read only."""

from __future__ import annotations

from typing import Any

from batches.engine.hosts import is_here
from batches.models import Device, Host


def hosts() -> list[dict[str, Any]]:
    """Return every host with its devices, by name; three queries."""
    there = {host.key for host in Host.objects.filter(is_here(""))}
    rows = Host.objects.order_by("name", "key").prefetch_related("devices")
    return [
        {
            "key": host.key,
            "name": host.name,
            "is_here": host.key in there,
            "seen_at": host.seen_at,
            "devices": [_device(device) for device in sorted(host.devices.all(), key=lambda device: device.index)],
        }
        for host in rows
    ]


def _device(device: Device) -> dict[str, Any]:
    return {
        "index": device.index,
        "kind": device.kind,
        "loaded": device.loaded,
        "rates": {model: round(rate, 1) for model, rate in device.rates.items()},
        "problem": device.problem,
    }


def host_text(host: dict[str, Any]) -> str:
    """Return a host in a line, for people: ``tower: here; cuda:0 120 × muq``."""
    seen = "here" if host["is_here"] else f"last seen {host['seen_at']:%Y-%m-%d %H:%M} UTC"
    return f"{host['name']}: {seen}; {', '.join(map(device_text, host['devices'])) or 'no devices'}"


def device_text(device: dict[str, Any]) -> str:
    """Return a device for people: its kind, how fast it is, and what keeps it from working."""
    rates = ", ".join(f"{model} {rate:,.0f}×" for model, rate in sorted(device["rates"].items()))
    text = " ".join(filter(None, [device["kind"] or f"device {device['index']}", f"({rates})" if rates else ""]))
    return f"{text}: {device['problem']}" if device["problem"] else text
