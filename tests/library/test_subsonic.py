"""A library that a music server lists."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from embeddings.errors import LibraryUnavailable
from embeddings.library import LibraryTrack, has_library, open_library
from embeddings.library.sync import sync_tracks
from embeddings.models import Listener, Track
from tests.subsonic import PASSWORD, SubsonicServer, subsonic_server


@pytest.fixture
def server(settings: Any, tmp_path: Path) -> Iterator[SubsonicServer]:
    """A music server that sees its music in /srv/music; here it lies in ``root``."""
    (tmp_path / "root").mkdir()
    settings.LIBRARY, settings.CACHE_DIR, settings.NAVIDROME_MUSIC_ROOT = (
        "subsonic",
        tmp_path / "cache",
        tmp_path / "root",
    )
    with subsonic_server(SubsonicServer()) as served:
        settings.SUBSONIC_URL, settings.SUBSONIC_USER, settings.SUBSONIC_PASSWORD = served.url, "ann", PASSWORD
        yield served


def song(track_id: str, folder: int = 1, **fields: Any) -> dict[str, Any]:
    told = {
        "id": track_id, "title": track_id.upper(), "artist": "A", "artistId": "a1", "album": "B", "duration": 3,
        "size": 9, "created": "2024-01-01T00:00:00Z", "genre": "G",
        "path": f"/srv/music/{track_id}.flac", "folder": folder,
    }  # fmt: skip
    return told | fields


def add(server: SubsonicServer, root: Path, *names: str, **fields: Any) -> None:
    for name in names:
        (root / f"{name}.flac").parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.flac").write_bytes(b"x")
        server.songs.append(song(name, **{"path": f"/srv/music/{name}.flac"} | fields))


def tracks() -> list[LibraryTrack]:
    return [track for page in open_library().pages() for track in page]


def test_a_server_that_lists_nothing_of_what_it_has_is_no_empty_library(server: SubsonicServer) -> None:
    assert tracks() == []
    server.scan |= {"count": 5, "lastScan": "2026-11-27T21:00:00Z"}
    with pytest.raises(LibraryUnavailable, match="lists none of them when asked for all"):
        tracks()


def test_tracks_are_listed_by_id_where_they_lie_here(server: SubsonicServer, tmp_path: Path) -> None:
    add(server, tmp_path / "root", "b", "ä", "a")
    found = tracks()
    assert [track.id for track in found] == ["a", "b", "ä"]
    assert found[0] == LibraryTrack(
        "a", 1, str(tmp_path / "root" / "a.flac"), "A", "A", "B", 3.0, 9, "2024-01-01T00:00:00Z", "G"
    )
    assert open_library().examples(1) == {tmp_path / "root": [found[0].path]}


def test_what_server_and_machine_have_in_common_of_a_path_is_found_out(server: SubsonicServer, tmp_path: Path) -> None:
    (tmp_path / "root" / "x" / "y").mkdir(parents=True)
    (tmp_path / "root" / "x" / "y" / "1.mp3").write_bytes(b"x")
    server.songs = [song("gone", path="/data/x/y/0.mp3"), song("a", path="/data/x/y/1.mp3")]
    library = open_library()
    assert [track.path for track in tracks()] == [str(tmp_path / "root" / "x" / "y" / f"{n}.mp3") for n in (1, 0)]
    root = tmp_path / "root"
    asked = [str(root), f"{root}/x/y/1", f"{root}/y", "/data", f"{root}/x%"]
    assert [library.holds(prefix) for prefix in asked] == [True, True, False, False, False]


def test_more_tracks_than_a_page(server: SubsonicServer, tmp_path: Path) -> None:
    add(server, tmp_path / "root", "a")
    server.songs += [song(f"t{n}") for n in range(1200)]
    assert len(tracks()) == open_library().count() == 1201
    assert server.names().count("search3") == 4


def test_the_list_is_read_again_only_after_a_scan(server: SubsonicServer, tmp_path: Path) -> None:
    add(server, tmp_path / "root", "a", "b")
    assert len(tracks()) == len(tracks()) == 2
    assert server.names().count("search3") == 2
    server.songs.pop()
    assert len(tracks()) == 2
    server.scan["lastScan"] = "2026-11-27T21:00:00Z"
    assert len(tracks()) == 1


def test_a_server_that_tells_no_scans_is_read_each_time(server: SubsonicServer, tmp_path: Path) -> None:
    server.scan = {"scanning": False}
    add(server, tmp_path / "root", "a")
    assert len(tracks()) == 1
    add(server, tmp_path / "root", "b")
    assert len(tracks()) == 2
    assert open_library().last_scan() is None


def test_during_a_scan_the_list_waits_and_what_is_known_stays(server: SubsonicServer, tmp_path: Path) -> None:
    add(server, tmp_path / "root", "a")
    tracks()
    assert open_library().last_scan() == datetime(2026, 11, 27, 20, 0, 0, 500_000, UTC)
    server.scan["scanning"] = True
    with pytest.raises(LibraryUnavailable, match="is scanning"):
        tracks()
    assert open_library().last_scan() is None
    assert list(open_library().present(["a", "x"])) == ["a"]


def test_a_scan_that_begins_while_the_list_is_read_makes_it_void(
    server: SubsonicServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(server, tmp_path / "root", "a")
    search = SubsonicServer.on_search3

    def scans_meanwhile(self: SubsonicServer, user: str, form: Any) -> dict[str, Any]:
        self.scan["lastScan"] += "1"
        return search(self, user, form)

    monkeypatch.setattr(SubsonicServer, "on_search3", scans_meanwhile)
    with pytest.raises(LibraryUnavailable, match="is read again"):
        tracks()
    assert list((tmp_path / "cache").iterdir()) == []


def test_music_that_is_mounted_later_is_found(server: SubsonicServer, settings: Any, tmp_path: Path) -> None:
    add(server, tmp_path / "root", "a")
    settings.NAVIDROME_MUSIC_ROOT = None
    assert [track.path for track in tracks()] == [str(tmp_path / "cache" / "music" / "1" / "srv" / "music" / "a.flac")]
    settings.NAVIDROME_MUSIC_ROOT = tmp_path / "root"
    assert [track.path for track in tracks()] == [str(tmp_path / "root" / "a.flac")]


def test_names_that_lead_out_of_the_library_are_left_out(server: SubsonicServer, tmp_path: Path) -> None:
    add(server, tmp_path / "root", "a")
    server.songs += [song("b", path="/srv/music/../../etc/passwd"), song("c", path="/srv/music/x/../c.flac")]
    server.songs += [song("d\0"), song(""), song("v", isVideo=True)]
    assert [track.path for track in tracks()] == [str(tmp_path / "root" / f"{name}.flac") for name in "ac"]


def test_made_up_paths_are_told_with_what_to_switch_on(server: SubsonicServer, tmp_path: Path) -> None:
    add(server, tmp_path / "root", "a", path="A/B/01 - a.flac")
    with pytest.raises(LibraryUnavailable, match="Report Real Path"):
        tracks()


def test_music_that_is_not_mounted_is_waited_for(server: SubsonicServer) -> None:
    server.songs = [song("a")]
    with pytest.raises(LibraryUnavailable, match="is empty or not mounted"):
        tracks()


@pytest.mark.django_db
def test_several_libraries_and_who_may_see_them(server: SubsonicServer, settings: Any, tmp_path: Path) -> None:
    server.folders, server.granted = {1: "Music", 7: "More"}, {"bob": [7]}
    settings.LIBRARY_PATH_MAP = {7: tmp_path / "more"}
    add(server, tmp_path / "root", "a")
    add(server, tmp_path / "more", "m", folder=7)
    library = open_library()
    assert [(track.library_id, track.path) for track in tracks()] == [
        (1, str(tmp_path / "root" / "a.flac")), (7, str(tmp_path / "more" / "m.flac")),
    ]  # fmt: skip
    assert library.libraries() == server.folders
    assert library.folders() == {1: tmp_path / "root", 7: tmp_path / "more"}
    assert (library.visible_to("Ann"), library.visible_to("bob")) == (None, {7})
    with pytest.raises(LibraryUnavailable, match="does not allow ann"):
        library.visible_to("stranger")
    Listener.objects.create(user="stranger", libraries=[1], starred=[])
    assert library.visible_to("stranger") == {1}
    Listener.objects.update(told_at=timezone.now() - timedelta(days=2))
    with pytest.raises(LibraryUnavailable, match="does not allow ann"):
        library.visible_to("stranger")


def test_people_and_playlists(server: SubsonicServer, tmp_path: Path) -> None:
    add(
        server, tmp_path / "root", "a",
        artists=[{"id": "a1", "name": "A"}, {"id": "a2", "name": "B"}], albumId="l",
        contributors=[{"role": "composer", "artist": {"id": "c", "name": "C"}}, {"artist": {"id": "a2"}}],
    )  # fmt: skip
    tracks()
    found = open_library().present(["a"])["a"]
    assert (found.artist_id, found.participants) == ("a1", {"a1", "a2", "c"})
    library = open_library()
    assert [library.of_artist(each) for each in ("a2", "c", "x")] == [{"a"}, {"a"}, set()]
    assert (library.of_album("l"), library.artist_names(["c", "x"])) == ({"a"}, {"c": "C"})
    playlist = server.add_playlist("Night", "ann", ["a"])
    assert open_library().in_playlists([playlist, "gone"]) == {"a"}


def test_before_the_list_was_read_the_server_is_asked(server: SubsonicServer) -> None:
    server.songs = [song("a")]
    library = open_library()
    assert (has_library(), library.count(), library.libraries()) == (True, 1, {1: "Music"})
    with pytest.raises(LibraryUnavailable, match="a job reads it"):
        library.present(["a"])


def test_a_server_that_refuses_us_is_a_library_that_is_away(server: SubsonicServer, settings: Any) -> None:
    settings.SUBSONIC_PASSWORD = "other"
    with pytest.raises(LibraryUnavailable, match="NAVEMBED_SUBSONIC_PASSWORD is wrong"):
        tracks()


@pytest.mark.django_db
def test_our_table_follows_the_list(server: SubsonicServer, tmp_path: Path) -> None:
    add(server, tmp_path / "root", "a", "b")
    assert sync_tracks() == 2
    server.songs.pop(0)
    server.scan["lastScan"] = "later"
    assert sync_tracks() == 1
    assert dict(Track.objects.values_list("pk", "playable")) == {"a": False, "b": True}


def peak_of_reading(tracks: int) -> float:
    """Return this process's peak in megabytes, which holds the server's pages, too."""
    Path("/proc/self/clear_refs").write_text("5")
    assert sum(len(page) for page in open_library().pages()) == tracks
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def test_memory_does_not_grow_with_the_library(
    server: SubsonicServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of a hundred thousand tracks would take a hundred megabytes."""
    (tmp_path / "root" / "t0.flac").write_bytes(b"x")

    def search(self: SubsonicServer, user: str, form: Any) -> dict[str, Any]:
        numbers = range(self.scan["count"])[(start := int(form["songOffset"][0])) : start + int(form["songCount"][0])]
        return {"searchResult3": {"song": [song(f"t{n}") for n in numbers]}}

    monkeypatch.setattr(SubsonicServer, "on_search3", search)
    peaks = []
    for server.scan in ({"count": 5_000, "lastScan": "1"}, {"count": 100_000, "lastScan": "2"}):
        peaks.append(peak_of_reading(server.scan["count"]))
    assert peaks[1] - peaks[0] < 30
