"""Whose playlists are written, and which are left alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from embeddings.errors import PlaylistRefused, ServerRefused
from embeddings.playlists.server import put
from embeddings.subsonic import subsonic
from tests.subsonic import Failed, SubsonicServer

OURS = "Made by navembed: sounds like x."


def written(server_id: str = "", name: str = "Night") -> str:
    with subsonic() as server:
        return put(server, server_id, name, OURS, ["b", "c"])


def test_one_that_somebody_has_deleted_is_made_anew(server: SubsonicServer) -> None:
    found = written("gone")
    assert [server.playlists[found][name] for name in ("name", "songs", "public")] == ["Night", ["b", "c"], False]


@pytest.mark.parametrize(
    "other",
    [
        {"owner": "ann", "comment": "my own"},
        {"owner": "bob", "comment": OURS},
        {"owner": "ann", "comment": OURS, "name": "Day"},
    ],
)
def test_what_we_have_not_made_is_left_alone(server: SubsonicServer, other: dict[str, Any]) -> None:
    server.admins = {"ann"}
    server.add_playlist(**{"name": "Night", "songs": ["a"]} | other)
    before = copy.deepcopy(server.playlists)
    found = written()
    assert {name: each for name, each in server.playlists.items() if name != found} == before


def test_one_of_ours_whose_id_is_lost_is_found_by_its_comment(server: SubsonicServer) -> None:
    ours = server.add_playlist("Night", "ann", ["a"], comment=OURS)
    assert written() == ours
    assert server.playlists[ours]["songs"] == ["b", "c"]


@pytest.mark.parametrize("step", ["on_createplaylist", "on_updateplaylist"])
def test_one_whose_making_has_failed_is_made_to_its_end(
    server: SubsonicServer, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_and_unheard(self: SubsonicServer, user: str, form: Any) -> Any:
        if step == "on_createplaylist":
            self.add_playlist(form["name"][0], user)
        raise Failed(0, "busy")

    server.add_playlist("Night", "ann", ["a"])
    monkeypatch.setattr(SubsonicServer, step, made_and_unheard)
    with pytest.raises(ServerRefused, match="busy"):
        written()
    monkeypatch.undo()
    assert written() == "p2"
    own, made = server.playlists.values()
    assert (own["songs"], made["name"], made["songs"], made["public"]) == (["a"], "Night", ["b", "c"], False)


@pytest.mark.parametrize("mark", [{"readonly": True}, {"validUntil": "2026-11-28T00:00:00Z"}, {"owner": "bob"}])
def test_smart_read_only_and_foreign_ones_are_refused_before_anything_is_sent(
    server: SubsonicServer, mark: dict[str, Any]
) -> None:
    found = server.add_playlist(**{"name": "Night", "owner": "ann", "songs": ["a"], "comment": OURS} | mark)
    with pytest.raises(PlaylistRefused, match="left as it is"):
        written(found)
    assert server.names() == ["getPlaylists"]
