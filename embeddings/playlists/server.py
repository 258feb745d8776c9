"""Playlists in a music server, written so that nobody loses one of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from embeddings.errors import PlaylistRefused, ServerUnavailable
from embeddings.subsonic import Subsonic, listed

MARK = "Made by navembed: "
"""Begins the comment of each playlist of ours, and the name of one that has no comment yet: by it one is known whose id
is lost. The plugin has the same rules."""


def put(server: Subsonic, server_id: str, name: str, comment: str, track_ids: Sequence[str]) -> str:
    """Write a playlist of the server's account and return its id.

    The one with ``server_id`` is updated in place and keeps its name; when somebody has deleted it, or it is a new
    one, it is made, private. One of ours that has this name, whose id we have lost, is found by its ``comment``, which
    begins with ``MARK``. Raises PlaylistRefused for one that is not ours to write, ServerUnavailable, ServerRefused.
    """
    old = _found(server, server_id, name)
    if old is None:
        old = {"id": _made(server, MARK + name, track_ids), "name": MARK + name}
    else:
        _require_ours(old, server.user)
        server.ask("createPlaylist", playlistId=str(old["id"]), songId=track_ids)
    new = {"name": name, "public": "false"} if old.get("name") == MARK + name else {}
    server.ask("updatePlaylist", playlistId=str(old["id"]), comment=comment, **new)
    return str(old["id"])


def starred(server: Subsonic, most: int) -> list[str]:
    """Return the tracks that the account has starred, the newest first. Raises ServerUnavailable, ServerRefused."""
    songs = [each for each in listed(server.ask("getStarred2"), "starred2", "song") if each.get("id")]
    return [str(each["id"]) for each in sorted(songs, key=lambda each: str(each.get("starred", "")), reverse=True)][
        :most
    ]


def _found(server: Subsonic, server_id: str, name: str) -> dict[str, Any] | None:
    playlists = [each for each in listed(server.ask("getPlaylists"), "playlists", "playlist") if each.get("id")]
    by_id = [each for each in playlists if server_id and str(each["id"]) == server_id]
    lost = [
        each
        for each in playlists
        if _is_own(each, server.user)
        and (
            each.get("name") == MARK + name
            or (each.get("name") == name and str(each.get("comment", "")).startswith(MARK))
        )
    ]
    return next(iter(by_id + lost), None)


def _made(server: Subsonic, name: str, track_ids: Sequence[str]) -> str:
    made = listed(server.ask("createPlaylist", name=name, songId=track_ids), "playlist")
    if not made or not made[0].get("id"):
        raise ServerUnavailable("The music server does not say which playlist it has made: it is too old.")
    return str(made[0]["id"])


def _require_ours(playlist: dict[str, Any], user: str) -> None:
    name = playlist.get("name", "")
    if not _is_own(playlist, user):
        raise PlaylistRefused(f"The playlist {name} belongs to {playlist['owner']}; it is left as it is.")
    # Smart ones are valid until they are made anew, by the OpenSubsonic extension of the API.
    if playlist.get("readonly") or playlist.get("validUntil"):
        raise PlaylistRefused(f"The playlist {name} is read-only in the music server; it is left as it is.")


def _is_own(playlist: dict[str, Any], user: str) -> bool:
    return str(playlist.get("owner") or user).lower() == user.lower()
