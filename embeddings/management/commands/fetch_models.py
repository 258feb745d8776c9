"""Get and check the weights of the configured models."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from embeddings.encoders.base import Encoder
from embeddings.encoders.registry import MODEL_KEYS, encoder_class
from embeddings.weights.fetch import FetchedFile, check_model, missing_files
from embeddings.weights.hub import HubUnreachable, RemoteFile, download, look_up
from embeddings.weights.locate import use_folders
from navembed_site.errors import NavembedError
from navembed_site.instance import command
from navembed_site.terminal import size_text

INTERRUPTED = 130  # as shells say it


class Command(command.Command):
    help = "Download the weights of the configured models, check them, and say what is where and how big."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--models", nargs="+", choices=MODEL_KEYS, default=MODEL_KEYS, metavar="MODEL")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, models: list[str], **options: Any) -> None:
        self.is_json = options["json"]
        self.errors: dict[str, str] = {}
        self.away: HubUnreachable | None = None
        self._quieten_the_client()
        use_folders(checkpoints=settings.CHECKPOINT_DIR, cache=settings.CACHE_DIR)
        encoders = [encoder_class(key)(settings.MODEL_SOURCES[key], "cpu") for key in models]
        try:
            checked = self._fetch(encoders)
        except KeyboardInterrupt:
            kept = "interrupted; what has arrived is kept: run the command again, and it goes on there"
            raise CommandError(kept, returncode=INTERRUPTED) from None
        if self.is_json:
            self.stdout.write(json.dumps({each.key: self._report(each, checked) for each in encoders}, indent=2))
        if self.errors:
            raise CommandError(f"no usable weights for {', '.join(self.errors)}")

    def _quieten_the_client(self) -> None:
        """It warns of every attempt; what matters comes as an error."""
        from huggingface_hub.utils import disable_progress_bars, logging

        logging.set_verbosity_error()
        if self.is_json or not sys.stderr.isatty():
            disable_progress_bars()

    def _fetch(self, encoders: Sequence[Encoder]) -> dict[str, list[FetchedFile]]:
        """Look all models up, then download and check one after the other; one that fails stops no other."""
        missing: dict[str, list[RemoteFile]] = {}
        for encoder in encoders:
            with self._failing(encoder):
                missing[encoder.key] = missing_files(encoder, self._look_up)
        self._tell_that_the_hub_is_away()
        self._announce({key: files for key, files in missing.items() if files})
        checked: dict[str, list[FetchedFile]] = {}
        for encoder in encoders:
            if encoder.key not in missing:
                continue
            with self._failing(encoder):
                for file in missing[encoder.key]:
                    download(file)
                checked[encoder.key] = check_model(encoder)
                self._print(encoder, checked[encoder.key])
        return checked

    def _look_up(self, source: str, names: tuple[str, ...]) -> RemoteFile:
        """Ask the hub; once it has not answered, nobody waits for it again."""
        if self.away:
            raise self.away
        try:
            return look_up(source, names)
        except HubUnreachable as error:
            self.away = error
            raise

    @contextmanager
    def _failing(self, encoder: Encoder) -> Iterator[None]:
        try:
            yield
        except NavembedError as error:
            self.errors[encoder.key] = str(error)
            if error is not self.away:
                self.stderr.write(f"{encoder.key}: {error}")

    def _tell_that_the_hub_is_away(self) -> None:
        if waiting := [key for key, error in self.errors.items() if error == str(self.away)]:
            variables = ", ".join(f"NAVEMBED_{key.upper()}" for key in waiting)
            self.stderr.write(
                f"{self.away}. Nothing was downloaded for {', '.join(waiting)}. HF_ENDPOINT may name a mirror; "
                "without a network, copy the files that docs/configuration.md lists and set "
                f"{variables} to their folders."
            )

    def _announce(self, missing: dict[str, list[RemoteFile]]) -> None:
        """Say what will be downloaded, before it begins. Raises CommandError when it does not fit on the disk."""
        if not missing:
            return
        for key, files in missing.items():
            size, left = sum(file.bytes for file in files), sum(file.bytes_left for file in files)
            arrived = f", {size_text(size - left)} of it are here" if left < size else ""
            count = "1 file" if len(files) == 1 else f"{len(files)} files"
            self._say(f"{key}: {size_text(size)} in {count}{arrived}")
        needed = sum(file.bytes_left for files in missing.values() for file in files)
        folder = settings.CHECKPOINT_DIR
        free = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.is_dir())).free
        room = f"{size_text(needed)} to download into {folder}, where {size_text(free)} are free"
        if needed > free:
            raise CommandError(f"{room}: make room, or set TEXT_EMBEDDING_CHECKPOINT_DIR to a folder on another disk")
        self._say(room)
        self.stdout.flush()  # into a file, too, it is said before

    def _print(self, encoder: Encoder, files: list[FetchedFile]) -> None:
        total = size_text(sum(file.bytes for file in files))
        self._say(self.style.SUCCESS(f"{encoder.key}: {encoder.source}, {total}, verified"))
        for folder, group in groupby(files, key=lambda file: Path(file.path).parent):
            self._say(f"  {folder}")
            for file in group:
                remark = {True: ", as published", False: ", NOT AS PUBLISHED", None: ""}[file.published]
                self._say(f"  {size_text(file.bytes):>9}  {file.sha256[:12]}  {Path(file.path).name}{remark}")
        if any(file.published is False for file in files):
            self.stderr.write(
                f"{encoder.key}: the weights fit and are used, but they are not those that were published when this "
                "was written: expect other vectors than elsewhere.",
                self.style.WARNING,
            )

    def _say(self, line: str) -> None:
        if not self.is_json:
            self.stdout.write(line)

    def _report(self, encoder: Encoder, checked: dict[str, list[FetchedFile]]) -> dict[str, Any]:
        files = [asdict(file) for file in checked.get(encoder.key, [])]
        return {"source": encoder.source, "files": files, "error": self.errors.get(encoder.key, "")}
