"""``manage.py spaces``: which vectors there are of each model, and which of them search uses."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from embeddings.encoders.registry import MODEL_KEYS
from embeddings.errors import NoSuchSpace
from embeddings.models import EmbeddingSpace
from embeddings.spaces.lifecycle import drop, roll_back, space_with
from embeddings.spaces.promotion import approve, point_aliases, size_of
from navembed_site.errors import NavembedError
from navembed_site.instance import command
from navembed_site.instance.needed import needed_processes
from navembed_site.process.locks import is_held
from navembed_site.terminal import console, size_text, table

Status = EmbeddingSpace.Status
OPTIONS = {
    "--rollback": "go back to the model's kept vectors",
    "--make-live": "let search use the model's finished build though more than 1 %% of the tracks lose their vector",
    "--drop": "drop the model's build, or with --kept its kept vectors",
}


class Command(command.Command):
    help = "List the vectors of each model: those that search uses, a build beside them, former ones that are kept."

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group()
        for option, meaning in OPTIONS.items():
            what.add_argument(option, choices=MODEL_KEYS, metavar="MODEL", help=meaning)
        parser.add_argument("--kept", action="store_true", help="with --drop: the kept vectors")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON for scripts")

    def handle(
        self, *, rollback: str | None, make_live: str | None, drop: str | None, kept: bool, as_json: bool, **_: Any
    ) -> None:
        if kept and not drop:
            raise CommandError("--kept goes with --drop.")
        try:
            if rollback:
                self._say(f"Search uses {roll_back(rollback)} again.")
                self._point_aliases()
            elif make_live:
                self._make_live(make_live)
            elif drop:
                self._drop(drop, Status.KEPT if kept else Status.BUILDING)
        except NavembedError as error:
            raise CommandError(str(error)) from error
        if as_json:
            self.stdout.write(json.dumps([_report(space) for space in _spaces()], indent=2))
        elif not (rollback or make_live or drop):
            _print()

    def _make_live(self, model: str) -> None:
        with needed_processes("milvus_lite"):
            found = approve(model)
            for problem in found.problems:
                self._say(f"In spite of this: {problem}.")
            if found.overlap is not None:
                self._say(f"Of the nearest {found.overlap:.0%} are those of before.")
            self._say(f"Search uses the new {model} vectors.")
            self._point_aliases()

    def _drop(self, model: str, status: str) -> None:
        space = space_with(model, status)
        if space is None or not drop(space):
            raise NoSuchSpace(f"{model} has no {status} vectors")
        soon = "within minutes" if is_held("light") else "when `serve` runs"
        self._say(f"{space} is dropped; its disk is given back {soon}.")

    def _point_aliases(self) -> None:
        try:
            with needed_processes("milvus_lite"):
                problem = point_aliases()
        except NavembedError as error:
            problem = str(error)
        if problem:
            self._say(f"{problem}.")

    def _say(self, text: str) -> None:
        self.stderr.write(text)


def _spaces() -> list[EmbeddingSpace]:
    return list(EmbeddingSpace.objects.order_by("model", "pk"))


def _report(space: EmbeddingSpace) -> dict[str, Any]:
    vectors = space.embeddings.count()
    return {
        "id": space.pk,
        "model": space.model,
        "status": space.status,
        "fingerprint": space.fingerprint,
        "collection": space.collection,
        "vectors": vectors,
        "bytes": size_of(space, vectors),
        "kept_until": space.kept_until and space.kept_until.isoformat(),
    }


def _print() -> None:
    shown = table("model", "status", "fingerprint", "vectors", "about", "kept until", numbers=("vectors", "about"))
    for space in _spaces():
        report = _report(space)
        until = f"{timezone.localtime(space.kept_until):%Y-%m-%d %H:%M}" if space.kept_until else ""
        size = size_text(report["bytes"])
        shown.add_row(space.model, space.status, space.fingerprint[:12], f"{report['vectors']:,}", size, until)
    console().print(shown if shown.row_count else "Nothing has been embedded yet.")
