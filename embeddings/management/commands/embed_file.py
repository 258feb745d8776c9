"""``manage.py embed_file``: do with files what is done with uploads."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from embeddings.errors import AudioError, BadUpload
from embeddings.uploads.request import Request, Wishes
from embeddings.uploads.service import Answer, Uploads, refusal
from navembed_site.instance import command
from navembed_site.instance.needed import needed_processes
from navembed_site.names import short_text
from navembed_site.terminal import plain


class Command(command.Command):
    help = "Embed files as if they were uploaded, before they are in the library; a CUE sheet splits one into tracks."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
        parser.add_argument("--cue", type=Path, metavar="SHEET", help="of one file; its tracks are written beside it")
        parser.add_argument("--dry-run", action="store_true", help="only say what a file would be split into")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print a JSON object a line")

    def handle(self, *, paths: list[Path], cue: Path | None, dry_run: bool, as_json: bool, **_: Any) -> None:
        if cue and len(paths) > 1:
            raise CommandError("--cue is of one file: name one.")
        requests = [_request(path, cue) for path in paths]
        answers = self._foreseen(requests) if dry_run else self._answers(requests)
        for request, answer in zip(requests, answers, strict=True):
            told = {"file": str(request.music_file), **answer}
            lines = [json.dumps(told)] if as_json else _lines(request.name, answer)
            for line in lines:
                self.stdout.write(line)
        if any(answer["status"] == "error" for answer in answers):
            raise CommandError("Not every file could be used.")

    def _answers(self, requests: list[Request]) -> list[Answer]:
        with needed_processes("milvus_lite", "embedder"), closing(Uploads()) as uploads:
            return [uploads.answer(request) for request in requests]

    def _foreseen(self, requests: list[Request]) -> list[Answer]:
        with closing(Uploads()) as uploads:
            return [_foreseen(uploads, request) for request in requests]


def _request(path: Path, cue: Path | None) -> Request:
    wishes = Wishes(find_duplicates=True)
    return Request(path.absolute(), short_text(path.name), cue.absolute() if cue else None, wishes)


def _foreseen(uploads: Uploads, request: Request) -> Answer:
    try:
        return {"status": "ok", "splitFiles": [track.as_answer() for track, _ in uploads.plan(request)]}
    except (BadUpload, AudioError) as error:
        return refusal(str(error))


def _lines(name: str, answer: Answer) -> list[str]:
    if answer["status"] == "error":
        return [plain(f"{name}: {answer['message']}")]
    lines = [f"{name}: is in the library already" if answer.get("allDuplicates") else f"{name}: ok"]
    lines += [f"  {each['index']:2} {each['destName']}" for each in answer.get("splitFiles", ())]
    for match in answer.get("matches", ()):
        kind = "is the same as" if match["confirmed"] else "only sounds like"
        other = match["path"] or f"{match['upload']}, which was uploaded"
        lines.append(f"  {match['file']} {kind} {other} ({match['similarity']:.3f})")
    if warning := answer.get("warning"):
        lines.append(f"  {warning}")
    return [plain(line) for line in lines]
