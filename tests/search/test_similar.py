"""``manage.py similar`` on real Milvus Lite."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from embeddings.management.commands.similar import find_track
from embeddings.models import Track
from tests.search.conftest import Library

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def similar(*arguments: str) -> dict[str, Any]:
    out = StringIO()
    call_command("similar", *arguments, "--json", stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def test_neighbours_of_a_track_as_json_and_as_a_table(music: Library, capsys: pytest.CaptureFixture[str]) -> None:
    found = similar("t10", "--models", "muq", "latent", "--limit", "3")["tracks"]
    assert [len(found), found[0]["track_id"], found[0]["models"]] == [3, "t11", ["muq", "latent"]]
    call_command("similar", "t10", "--limit", "3")
    assert "t11" in capsys.readouterr().out


@pytest.fixture
def three(db: None) -> None:
    fields = {"library_id": 1, "duration": 1, "size": 1, "mtime": "", "playable": True, "scan": 1}
    for number, title in enumerate(["Low Water", "Low Water (live)", "Förderband"]):
        Track.objects.create(id=f"x{number}", path=f"/music/Reed/{number}.flac", artist="Reed", title=title, **fields)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("x1", "x1"), ("/music/Reed/2.flac", "x2"), ("Reed - low water", "x0"), ("(live)", "x1"), ("Förder", "x2")],
)
def test_track_is_found_by_what_names_it_alone(three: None, name: str, meant: str) -> None:
    assert find_track(name).pk == meant


def test_name_of_several_tracks_lists_them(three: None) -> None:
    with pytest.raises(CommandError, match=r"(?s)Several tracks.*x0.*Reed - Low Water.*x1.*0.flac|x1"):
        find_track("water")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Name a track"),
        (["x", "--text", "y"], "Name a track"),
        (["nothing like it"], "No track"),
        (["x", "--limit", "0"], "--limit"),
        (["--text", " "], "empty"),
    ],
)
def test_what_cannot_be_asked_is_said(db: None, arguments: list[str], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        call_command("similar", *arguments)
