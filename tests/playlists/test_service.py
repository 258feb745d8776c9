"""Playlists that are made again by themselves, and those of users whom we cannot sign in as."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from batches.tasks import make_playlists
from embeddings.errors import PlaylistRefused
from embeddings.models import Playlist
from embeddings.playlists import service
from embeddings.playlists.recipe import Recipe, Role, keep_tracks, tracks_of
from tests.search.conftest import Library
from tests.subsonic import SubsonicServer

pytestmark = [pytest.mark.django_db, pytest.mark.database]

DAY = timedelta(days=1)


def like(*track_ids: str) -> Recipe:
    return Recipe(like=track_ids, limit=3)


def due(name: str = "Night", *track_ids: str, schedule: str = "weekly") -> Playlist:
    playlist = service.save(name, like(*track_ids or ["t10"]), schedule=schedule)
    Playlist.objects.update(due_at=timezone.now())
    return playlist


def due_in(playlist: Playlist) -> timedelta:
    playlist.refresh_from_db()
    assert playlist.due_at
    return playlist.due_at - timezone.now()


def test_a_weekly_one_is_made_once_a_week(music: Library, server: SubsonicServer) -> None:
    playlist = due()
    assert (make_playlists(), make_playlists()) == (1, 0)
    assert 6.9 * DAY < due_in(playlist) < 7 * DAY
    Playlist.objects.update(due_at=timezone.now())
    [held] = server.playlists.values()
    held["songs"] = []
    assert make_playlists() == 1
    assert [each["songs"] for each in server.playlists.values()] == [tracks_of(playlist)]


def test_one_that_was_just_made_is_not_due(music: Library, server: SubsonicServer) -> None:
    playlist = service.save("Night", like("t10"), schedule="daily")
    assert due_in(playlist) > timedelta(minutes=59)
    service.make(playlist)
    assert due_in(playlist) > 0.9 * DAY


def test_of_a_user_whom_we_cannot_sign_in_as_it_waits(music: Library, server: SubsonicServer) -> None:
    ours, other = service.save("Night", like("t10")), service.save("Night", like("t10"), user="bob")
    for playlist in (ours, other):
        service.make(playlist)
    assert (list(service.pending()), len(server.playlists)) == ([other], 1)
    service.delivered(other, "p7")
    assert (list(service.pending()), other.server_id) == ([], "p7")


def test_what_finds_nothing_leaves_the_server_alone_and_is_tried_again_in_an_hour(
    db: None, server: SubsonicServer
) -> None:
    playlist = due()
    keep_tracks(playlist, Role.HELD, ["x"])
    assert make_playlists() == 0
    assert (server.calls, tracks_of(playlist)) == ([], ["x"])
    assert timedelta(minutes=59) < due_in(playlist) < timedelta(hours=1)
    assert "No track was found" in playlist.problem


def test_one_that_fails_does_not_hold_up_the_next(music: Library, server: SubsonicServer) -> None:
    due("Bad", "nobody", schedule="daily")
    due()
    assert make_playlists() == 1
    assert [each["name"] for each in server.playlists.values()] == ["Night"]


@pytest.mark.parametrize(("ahead", "is_due"), [(-DAY, True), (timedelta(hours=1), False), (30 * DAY, True)])
def test_a_clock_that_was_set_back_does_not_stop_it(
    db: None, server: SubsonicServer, ahead: timedelta, is_due: bool
) -> None:
    due()
    Playlist.objects.update(due_at=timezone.now() + ahead)
    assert bool(service._due(timezone.now())) is is_due


def test_only_one_process_makes_it(db: None, server: SubsonicServer) -> None:
    due()
    one, other = Playlist.objects.get(), Playlist.objects.get()
    assert (service._claim(one), service._claim(other)) == (True, False)


def test_a_user_s_name_is_one_however_it_is_written(db: None, server: SubsonicServer) -> None:
    assert service.save("Night", like("t10"), user="Ann") == service.save("Night", like("t11"))
    service.forget("Night", "ANN")


def test_one_that_is_forgotten_while_it_is_made_stays_so(db: None, server: SubsonicServer) -> None:
    playlist = service.save("Night", like("t10"))
    Playlist.objects.all().delete()
    service.delivered(playlist, "p1")
    assert not Playlist.objects.exists()


def test_a_folder_has_no_server(db: None, server: SubsonicServer, settings: Any) -> None:
    settings.LIBRARY = "folder"
    with pytest.raises(PlaylistRefused, match="no music server knows the tracks"):
        due()


def test_a_name_of_nothing_is_refused(db: None, server: SubsonicServer) -> None:
    with pytest.raises(PlaylistRefused, match="1 to 200 characters"):
        service.save(" \0 ", like("t10"))
