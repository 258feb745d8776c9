"""What ``manage.py benchmark embedding`` takes and prints."""

from __future__ import annotations

import json
import os
import signal
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import OutputWrapper

from navembed_site.benchmarks.embedding.sizes import SIZES

if TYPE_CHECKING:
    from navembed_site.benchmarks.embedding.measure import Effort, Figure

PARTS = ("decode", "host", "models", "pipeline")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="what to measure (default: all of it)")
    parser.add_argument("--against-replaced", action="store_true", help="measure the replaced algorithm beside ours")
    parser.add_argument("--size", choices=SIZES, default="tiny", help="of the models; full: as published")
    parser.add_argument("--seconds", type=float, nargs="+", default=[240.0, 120.0], help="lengths of the tracks")
    parser.add_argument("--runs", type=int, default=3, help="of which the median counts (default: 3)")
    parser.add_argument("--tracks", type=int, default=50, help="of the pipeline's job (default: 50)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (default: auto)")
    parser.add_argument("--folder", type=Path, help="where scratch files lie (default: temporary files)")


def handle(
    out: OutputWrapper,
    *,
    part: Sequence[str],
    against_replaced: bool,
    size: str,
    seconds: Sequence[float],
    **options: Any,
) -> None:
    """Measure and print. Raises StepFailed."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the embedder, for both sides
    from embeddings.embedder.device import choose_device
    from navembed_site.benchmarks.embedding import machine
    from navembed_site.benchmarks.embedding.measure import Effort, as_json

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nobody leaves an instance running
    effort = Effort(size, tuple(seconds), options["runs"], choose_device(options["device"]), against_replaced)
    on = machine.describe(effort.device)
    found = _figures(part or PARTS, effort, options["tracks"], options["folder"])
    if options["json"]:
        out.write(json.dumps({"machine": on, "size": size, "figures": [as_json(each) for each in found]}, indent=2))
        return
    out.write(f"Embedding with {size} models; {', '.join(f'{name} {value}' for name, value in on.items())}")
    out.write(_line("", "ours", "CPU s", "replaced", "CPU s", "times", "by CPU"))
    for each in found:  # as they come: what is stopped has told something
        numbers = (each.cpu, each.replaced, each.replaced_cpu, each.speedup, each.speedup_cpu)
        wanted = f" (wanted: < {each.wanted:g} {each.unit})" if each.wanted else ""
        shown = ("" if number is None else f"{number:.2f}" for number in numbers)
        out.write(_line(each.what + wanted, f"{each.value:,.2f} {each.unit}", *shown))
        out.flush()


def _line(what: str, ours: str, *others: str) -> str:
    return f"{what:56}{ours:>20}" + "".join(f"{other:>10}" for other in others)


def _figures(parts: Sequence[str], effort: Effort, tracks: int, folder: Path | None) -> Iterator[Figure]:
    from navembed_site.benchmarks.embedding import measure
    from navembed_site.benchmarks.embedding.pipeline import pipeline

    if set(parts) - {"pipeline"}:
        with measure.bench(effort, folder) as made:
            for part in parts:
                if part != "pipeline":
                    yield from getattr(measure, part)(made)
    if "pipeline" in parts:
        yield from pipeline(effort, tracks, folder)
