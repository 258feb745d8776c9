"""Uploads from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from embeddings.models import UploadEmbedding
from embeddings.uploads.service import Uploads
from navembed_site.demo.language_model import LanguageModel
from tests.uploads.sheets import FILE, ONE, sheet

Arrived = Callable[..., Path]
pytestmark = pytest.mark.django_db(transaction=True)


def run(*arguments: object) -> str:
    out = StringIO()
    call_command("embed_file", *map(str, arguments), stdout=out)
    return out.getvalue()


@pytest.mark.usefixtures("embedder", "milvus")
def test_files_are_embedded_and_told_one_by_one(arrived: Arrived, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = arrived(seed=1), arrived(".mp3", seed=2)
    told, out, answer = [], StringIO(), Uploads.answer
    monkeypatch.setattr(Uploads, "answer", lambda *given: (told.append(out.getvalue()), answer(*given))[1])
    model = LanguageModel()
    with model.answering():
        asked = ("--json", "--threshold", "0.5", "--rename", model.endpoint)
        call_command("embed_file", str(one), str(other), *asked, stdout=out)
    answers = [json.loads(line) for line in out.getvalue().splitlines()]
    assert answers[1]["renamedFile"] == "Navidrome-Upload-1.mp3"
    assert told == ["", out.getvalue().splitlines(keepends=True)[0]]
    assert [(each["file"], each["status"]) for each in answers] == [(str(one), "ok"), (str(other), "ok")]
    assert UploadEmbedding.objects.count() == 2


def test_a_dry_run_says_what_a_sheet_makes_and_writes_nothing(arrived: Arrived) -> None:
    path = arrived()
    path.with_suffix(".cue").write_bytes(sheet(FILE, *ONE, "TRACK 02 AUDIO", "INDEX 01 00:01:00"))
    before = sorted(path.parent.iterdir())
    assert "\n  2 Unknown artist - " in run(path, "--cue", path.with_suffix(".cue"), "--dry-run")
    assert sorted(path.parent.iterdir()) == before


def test_a_dry_run_refuses_what_is_no_music(tmp_path: Path) -> None:
    (tmp_path / "words.mp3").write_bytes(b"This is no music.\n" * 500)
    with pytest.raises(CommandError, match="Not every file"):
        run(tmp_path / "words.mp3", "--dry-run")


def test_what_cannot_be_used_is_an_exit_code(tmp_path: Path, settings: Any) -> None:
    with pytest.raises(CommandError, match="Not every file"):
        run(tmp_path / "nothing.mp3", "--dry-run")
    with pytest.raises(CommandError, match="one file"):
        run("a", "b", "--cue", "c")
