"""A dry run as a table for humans."""

from __future__ import annotations

from datetime import timedelta

from rich.console import Console
from rich.table import Table

from batches.preview import DiskNeed, ModelPreview, Preview, size_text


def preview_text(preview: Preview) -> str:
    """Return the table, and what stands in the way, as lines of text."""
    reasons = list(preview.models[0].tracks)
    table = Table("model", *reasons, "gone", "hours of audio", "time", "disk", title=f"{preview.tracks} tracks")
    for model in preview.models:
        counts = [str(model.tracks[reason]) for reason in reasons]
        size = size_text(model.database_bytes + model.index_bytes)
        hours = f"{model.audio_seconds / 3600:.1f}"
        table.add_row(model.model, *counts, str(model.gone), hours, _time(model.work_seconds), size)
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table)
        console.print(f"time in all: {_time(preview.work_seconds)}")
        for line in [*map(_changed, preview.models), *map(_disk, preview.disks)]:
            if line:
                console.print(line, soft_wrap=True)
    return captured.get().rstrip()


def _time(seconds: float | None) -> str:
    return "not measured yet" if seconds is None else str(timedelta(seconds=round(seconds)))


def _changed(model: ModelPreview) -> str:
    if not model.fingerprint_changed:
        return ""
    return f"{model.model}: the weights or the recipe have changed, so nothing that is there can be used."


def _disk(disk: DiskNeed) -> str:
    verdict = "" if disk.fits else "; this does not fit, and would be refused"
    return f"{disk.path}: needs about {size_text(disk.needed_bytes)}, {size_text(disk.free_bytes)} are free{verdict}"
