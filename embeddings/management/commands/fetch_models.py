"""Get and check the weights of the configured models."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from embeddings.encoders.fetch import FetchedFile, fetch_model
from embeddings.encoders.registry import MODEL_KEYS, encoder_class
from embeddings.encoders.weights import use_folders
from embeddings.errors import NavembedError
from navembed_site import commands


class Command(commands.Command):
    help = "Download the weights of the configured models, check them, and say what is where and how big."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--models", nargs="+", choices=MODEL_KEYS, default=MODEL_KEYS, metavar="MODEL")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, models: list[str], **options: Any) -> None:
        if options["json"] or not sys.stderr.isatty():
            from huggingface_hub.utils import disable_progress_bars

            disable_progress_bars()
        use_folders(checkpoints=settings.CHECKPOINT_DIR, cache=settings.CACHE_DIR)
        report: dict[str, dict[str, Any]] = {}
        for key in models:
            source = settings.MODEL_SOURCES[key]
            report[key] = {"source": source, "files": [], "error": ""}
            try:
                files = fetch_model(encoder_class(key)(source, "cpu"))
            except NavembedError as error:
                report[key]["error"] = str(error)
                self.stderr.write(self.style.ERROR(f"{key}: {error}"))
                continue
            report[key]["files"] = [asdict(file) for file in files]
            if not options["json"]:
                self._print(key, source, files)
        if options["json"]:
            self.stdout.write(json.dumps(report, indent=2))
        failed = [key for key in report if report[key]["error"]]
        if failed:
            raise CommandError(f"no usable weights for {', '.join(failed)}")

    def _print(self, key: str, source: str, files: list[FetchedFile]) -> None:
        total = sum(file.bytes for file in files)
        self.stdout.write(self.style.SUCCESS(f"{key}: {source}, {_size(total)}"))
        for file in files:
            self.stdout.write(f"  {_size(file.bytes):>9}  {file.sha256[:12]}  {Path(file.path)}")


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
