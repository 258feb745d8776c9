"""A dry run as a table for humans."""

from __future__ import annotations

from datetime import timedelta

from batches.selectors.dry_run import DiskNeed, ModelPreview, Preview
from navembed_site.terminal import console, size_text, table


def preview_text(preview: Preview) -> str:
    """Return the table, and what stands in the way, as lines of text."""
    models = preview.models
    shown = table("", *(model.model for model in models), numbers=[model.model for model in models])
    for reason in models[0].tracks:
        shown.add_row(reason, *(f"{model.tracks[reason]:,}" for model in models))
    shown.add_row("gone", *(f"{model.gone:,}" for model in models))
    shown.add_row("hours of audio", *(f"{model.audio_seconds / 3600:,.2f}" for model in models))
    shown.add_row("time", *(_time(model.work_seconds) for model in models))
    shown.add_row("disk", *(size_text(model.database_bytes + model.index_bytes) for model in models))
    out = console()
    with out.capture() as captured:
        out.print(f"{preview.tracks:,} tracks")
        out.print(shown)
        out.print(f"time in all: {_time(preview.work_seconds)}")
        for line in [*map(_changed, models), *map(_weights, models), *map(_disk, preview.disks)]:
            if line:
                out.print(line, soft_wrap=True)
    return captured.get().rstrip()


def _time(seconds: float | None) -> str:
    return "not measured yet" if seconds is None else str(timedelta(seconds=round(seconds)))


def _changed(model: ModelPreview) -> str:
    if not model.fingerprint_changed or model.problem:
        return ""
    return f"{model.model}: the weights or the recipe have changed, so nothing that is there can be used."


def _weights(model: ModelPreview) -> str:
    if not model.problem:
        return ""
    size = f" ({size_text(model.download_bytes)})" if model.download_bytes else ""
    return f"{model.model}: {model.problem}{size}."


def _disk(disk: DiskNeed) -> str:
    verdict = "" if disk.fits else "; this does not fit, and would be refused"
    return f"{disk.path}: needs about {size_text(disk.needed_bytes)}, {size_text(disk.free_bytes)} are free{verdict}"
