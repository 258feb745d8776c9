"""The same recording twice in the library is suggested; what somebody has said of it is remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models import Value
from django.db.models.functions import Concat
from django.test import Client

from embeddings.audio.pool import DecodePool
from embeddings.duplicates.judging import duplicates_of
from embeddings.duplicates.looking import look_due, look_through, tracks_left, want_look
from embeddings.duplicates.pairs import follow, groups, reject
from embeddings.errors import LibraryUnavailable
from embeddings.management.commands import find_duplicates
from embeddings.models import DuplicatePair, Embedding, EmbeddingSpace, Track
from embeddings.spaces.reuse import take_over_moved
from tests.batches.rows import make_embedding, make_space, make_track
from tests.duplicates.conftest import Add
from tests.subsonic import PASSWORD, SubsonicServer, subsonic_server
from tests.uploads import pairs

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def look(decoders: DecodePool) -> list[tuple[str, str]]:
    want_look()
    list(look_through(decoders))
    return sorted(DuplicatePair.objects.values_list("one", "other"))


def pair(one: str, other: str, **fields: bool) -> DuplicatePair:
    for name in (one, other):
        Track.objects.filter(pk=name).exists() or make_track(name)
    facts = {"similarity": {}, "same_audio": False} | fields
    return DuplicatePair.objects.create(one_id=one, other_id=other, **facts)


def test_the_same_recording_is_found_and_others_are_not(add: Add, decoders: DecodePool) -> None:
    add("a.flac")
    add("b.mp3", pairs.shifted(pairs.piece("techno", 0), -0.7, 0))
    add("c.flac", pairs.piece("piano", 1))
    assert look(decoders) == [("a", "b")]
    found = DuplicatePair.objects.get()
    assert (sorted(found.similarity), found.same_audio) == (["latent", "muq"], False)


def test_all_models_have_to_agree(add: Add, decoders: DecodePool) -> None:
    add("a.flac")
    add("b.flac", away=5.0)
    assert look(decoders) == []


def test_the_same_audio_needs_no_decoding(add: Add, decoders: DecodePool) -> None:
    for name in ("a.flac", "b.flac"):
        Path(add(name, audio_hash="same").path).write_bytes(b"no music")
    assert look(decoders) == [("a", "b")]
    assert DuplicatePair.objects.get().same_audio


def test_what_is_much_longer_is_no_duplicate(add: Add, decoders: DecodePool) -> None:
    add("a.flac")
    add("b.flac", audio_seconds=pairs.SECONDS + 2.5)
    assert look(decoders) == []


def test_one_track_is_looked_at_at_once(add: Add, decoders: DecodePool) -> None:
    add("a.flac")
    add("b.flac")
    assert [each.track_id for each in duplicates_of("a", decoders)] == ["b"]
    assert not DuplicatePair.objects.exists()


def test_files_of_a_music_server_are_fetched(add: Add, decoders: DecodePool, settings: Any, tmp_path: Path) -> None:
    files = {name[0]: Path(add(name).path) for name in ("a.flac", "b.flac")}
    Track.objects.update(path=Concat(Value("/nowhere/"), "path"))
    settings.LIBRARY, settings.CACHE_DIR, settings.NAVIDROME_MUSIC_ROOT = "subsonic", tmp_path / "cache", None
    settings.LIBRARY_PATH_MAP = {}
    with subsonic_server(SubsonicServer(files=files)) as server:
        settings.SUBSONIC_URL, settings.SUBSONIC_USER, settings.SUBSONIC_PASSWORD = server.url, "ann", PASSWORD
        assert [each.track_id for each in duplicates_of("a", decoders)] == ["b"]
        del server.files["b"]  # the server lost it, which keeps nobody from looking at others
        assert duplicates_of("a", decoders) == []


def test_nothing_is_looked_at_before_somebody_asks_and_only_once(add: Add, decoders: DecodePool) -> None:
    add("a.flac")
    assert (look_due(), list(look_through(decoders))) == (False, [])
    want_look()
    assert (look_due(), tracks_left()) == (True, 1)
    assert list(look_through(decoders)) == [1]
    assert not look_due()
    add("b.flac")
    assert list(look_through(decoders)) == [1]
    assert DuplicatePair.objects.count() == 1


def test_a_pair_goes_when_the_audio_is_another(add: Add, decoders: DecodePool) -> None:
    add("a.flac", audio_hash="same")
    add("b.flac", audio_hash="same")
    assert look(decoders) == [("a", "b")]
    for row in Embedding.objects.filter(track="b"):
        row.audio_hash, row.audio_seconds = "other", 99.0
        row.save()
    assert look(decoders) == []


def test_what_is_no_duplicate_stays_so_when_it_is_found_again(add: Add, decoders: DecodePool) -> None:
    add("a.flac", audio_hash="same")
    add("b.flac", audio_hash="same")
    look(decoders)
    assert reject("b", ["a"]) == 1
    for row in Embedding.objects.all():
        row.save()
    assert look(decoders) == [("a", "b")]
    assert DuplicatePair.objects.get().rejected


def test_a_disk_that_is_away_hides_nothing_for_good(
    add: Add, decoders: DecodePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(add("a.flac").path).unlink()
    add("b.flac")
    monkeypatch.setattr("embeddings.duplicates.judging.is_place_there", lambda path: False)
    want_look()
    with pytest.raises(LibraryUnavailable):
        list(look_through(decoders))
    assert look_due()


def test_pairs_follow_new_ids_as_vectors_do() -> None:
    old = make_track("old", path="/music/x", playable=False)
    make_embedding(make_space(), old)
    pair("old", "z", rejected=True)
    make_track("zz", path="/music/x")
    take_over_moved(EmbeddingSpace.objects.get(), lambda: None)
    assert list(DuplicatePair.objects.values_list("one", "other", "rejected")) == [("z", "zz", True)]


def test_two_pairs_that_become_one_keep_what_was_said() -> None:
    pair("a", "b")
    pair("a", "c", rejected=True)
    follow({"c": "b"})
    assert list(DuplicatePair.objects.values_list("one", "other", "rejected")) == [("a", "b", True)]


def test_groups_are_what_pairs_connect() -> None:
    pair("a", "b"), pair("c", "d"), pair("b", "e")
    found = groups(DuplicatePair.objects.order_by("pk"))
    assert sorted(len(group) for group in found) == [1, 2]


def test_the_command_says_what_it_found(
    add: Add, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_duplicates.os, "nice", lambda _: 0)
    add("a.flac", audio_hash="same")
    add("b.flac", audio_hash="same")
    call_command("find_duplicates")
    assert "2 tracks were looked at; 1 pairs hold the same recording." in capsys.readouterr().out


def test_a_tracks_page_finds_its_duplicates(add: Add, admin_client: Client) -> None:
    for name in ("a.flac", "b.flac"):
        add(name, audio_hash="same")
    page = admin_client.get("/admin/duplicates/of/a").content.decode()
    assert "the same audio" in page
