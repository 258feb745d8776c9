"""``manage.py embed_file``: do with files what is done with uploads."""

from __future__ import annotations

import json
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from embeddings.uploads.request import THRESHOLD, Request, Wishes
from embeddings.uploads.service import Answer, Uploads
from navembed_site.instance import command
from navembed_site.instance.needed import needed_processes
from navembed_site.names import short_text
from navembed_site.terminal import plain


class Command(command.Command):
    help = "Embed files as if they were uploaded, before they are in the library; a CUE sheet splits one into tracks."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
        parser.add_argument("--cue", type=Path, metavar="SHEET", help="of one file; its tracks are written beside it")
        parser.add_argument("--threshold", type=float, default=THRESHOLD, help="of duplicates (default: %(default)s)")
        parser.add_argument("--rename", metavar="ENDPOINT", help="also say what its language model would call a file")
        parser.add_argument("--dry-run", action="store_true", help="only say what a file would be split into")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print a JSON object a line")

    def handle(
        self,
        *,
        paths: list[Path],
        cue: Path | None,
        threshold: float,
        rename: str | None,
        dry_run: bool,
        as_json: bool,
        **_: Any,
    ) -> None:
        if cue and len(paths) > 1:
            raise CommandError("--cue is of one file: name one.")
        wishes = Wishes(find_duplicates=True, threshold=threshold, rename=rename is not None, endpoint=rename or "")
        are_used = True
        with nullcontext() if dry_run else needed_processes("milvus_lite", "embedder"), closing(Uploads()) as uploads:
            for path in paths:
                request = Request(path.absolute(), short_text(path.name), cue.absolute() if cue else None, wishes)
                answer = uploads.foreseen(request) if dry_run else uploads.answer(request)
                told = {"file": str(request.music_file), **answer}
                self.stdout.write("\n".join([json.dumps(told)] if as_json else _lines(request.name, answer)))
                self.stdout.flush()
                are_used &= answer["status"] == "ok"
        if not are_used:
            raise CommandError("Not every file could be used.")


def _lines(name: str, answer: Answer) -> list[str]:
    if answer["status"] == "error":
        return [plain(f"{name}: {answer['message']}")]
    lines = [f"may be called {answer['renamedFile']}"] if answer.get("renamedFile") else []
    lines += [f"{each['index']} {each['destName']}" for each in answer.get("splitFiles", ())]
    for match in answer.get("matches", ()):
        kind = "is the same as" if match["confirmed"] else "only sounds like"
        other = match["path"] or f"{match['upload']}, which was uploaded"
        lines.append(f"{match['file']} {kind} {other} ({match['similarity']:.3f})")
    if warning := answer.get("warning"):
        lines.append(warning)
    head = f"{name}: is in the library already" if answer.get("allDuplicates") else f"{name}: ok"
    return [plain(head), *(f"  {plain(line)}" for line in lines)]
