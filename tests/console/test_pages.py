"""The console's pages: what they show, in how many queries, and what of a library they never run."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batches import services
from batches.models import BatchJob, Host, TrackResult
from batches.requests import JobRequest
from batches.schedule import next_at
from embeddings.embedder.client import lock_name
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.models import (
    DuplicateLook,
    DuplicatePair,
    Embedding,
    EmbeddingSpace,
    Instance,
    Playlist,
    Track,
    Upload,
    instance,
)
from embeddings.playlists.recipe import Recipe
from embeddings.playlists.service import save
from navembed_site.access.scopes import Scope
from navembed_site.access.tokens import create_token
from navembed_site.console import duplicates, health, jobs
from navembed_site.process.locks import hold
from tests.batches.rows import elsewhere, make_embedding, make_job, make_space, make_track, set_status
from tests.console.conftest import HOSTILE, bad, finished_job, forget
from tests.navidrome_db import make_navidrome

pytestmark = [pytest.mark.django_db, pytest.mark.database]

MANY = 2000
MOST_QUERIES = 14
DRY_RUNS = ("part=preview", "part=anew")
"""They read the library in slices; pages ask for them when they are shown."""


def addresses() -> list[str]:
    """Every page, of rows that are there."""
    job, track = BatchJob.objects.latest("pk"), Track.objects.earliest("pk")
    key = Embedding.objects.earliest("pk").pk
    parts = {
        "": ["health", "setup", "hand", "cards", "last_jobs"],
        "jobs": ["job_list"],
        f"jobs/{job.pk}": ["job", "job_pace", "job_reasons"],
        "jobs/new": ["preview", "anew"],
        f"track/{track.pk}": ["neighbours"],
        f"jobs/{job.pk}/failures": [],
        "jobs/folders?prefix=/": [],
        "problems": [],
        "problems?message=x": [],
        "problems?show=ignored": [],
        "tracks": [],
        "tracks?q=a": [],
        "find": [],
        "map": [],
        "map?model=muq&way=umap&by=cluster": [],
        "map?by=library": [],
        "map/points": [],
        f"map/points/{key}": [],
        "find?q=slow": [],
        "find?q=slow&column=muq&part=found": [],
        "playlists": [],
        "duplicates": ["duplicate_state"],
        "duplicates?models=muq": [],
        "duplicates?show=rejected": [],
        f"duplicates/of/{track.pk}": [],
        "uploads": [],
        "versions": [],
    }
    return [
        f"/admin/{page}{part}" for page, some in parts.items() for part in ["", *(f"?part={each}" for each in some)]
    ]


@pytest.fixture
def readable(settings: Any, tmp_path: Path) -> None:
    """The library can be read, as it can where people look at pages."""
    settings.LIBRARY = "navidrome"
    settings.NAVIDROME_DB_PATH = make_navidrome(tmp_path / "navidrome.db", libraries={1: "/music"})


def queries(client: Client, path: str) -> list[str]:
    """Return what a page asks the database for, with nothing remembered."""
    forget()
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200, path
    return [query["sql"] for query in captured]


def many_rows() -> None:
    """A library of ``MANY`` tracks with three results each, of which a tenth has failed."""
    tracks = Track.objects.bulk_create(
        Track(
            id=f"m{number:05}", library_id=1, path=f"/music/{number % 50}/{number}.flac", title=f"Title {number}",
            artist="Artist", duration=200, size=1000, mtime="2024", playable=True, scan=1,
        )
        for number in range(MANY)
    )  # fmt: skip
    job = make_job(tracks, MODEL_KEYS)
    now = timezone.now()
    # By their ids: PostgreSQL has no statistics of rows just made, and once took ten minutes over a join of them.
    rows = job.results.filter(track__in=[track for track in tracks if track.path.endswith("7.flac")])
    rows.update(status="failed", error_class="AudioError", error_message="damaged", finished_at=now)
    for space in EmbeddingSpace.objects.all():
        Embedding.objects.bulk_create(
            Embedding(
                space=space, track=track, windows=1, audio_seconds=1, size=1000, mtime="2024", audio_hash="a",
                vector=b"\0" * 32,
            )
            for track in tracks[::2]
        )  # fmt: skip
    for rejected in (False, True):
        DuplicatePair.objects.bulk_create(
            DuplicatePair(
                one=one, other=other, similarity={"muq": 0.99, "mert": 0.95}, same_audio=False, rejected=rejected
            )
            for one, other in zip(tracks[rejected::3], tracks[rejected + 1 :: 3], strict=False)
        )
    set_status(job, "completed_with_errors")


def test_each_page_takes_few_queries_and_no_more_for_many_rows(admin_client: Client, readable: None) -> None:
    finished_job("a", "b")
    elsewhere()
    pages = [path for path in addresses() if not path.endswith(DRY_RUNS)]
    few = {path: len(queries(admin_client, path)) for path in pages}
    many_rows()
    many = {path: len(queries(admin_client, path)) for path in pages}
    assert {path: count for path, count in many.items() if count > MOST_QUERIES} == {}
    assert {path: (few[path], count) for path, count in many.items() if count > few[path] + 1} == {}


def test_vectors_are_never_loaded(admin_client: Client) -> None:
    finished_job("a", "b")
    asked = [
        sql
        for path in addresses()
        if not re.search("neighbours|duplicates/of", path)
        for sql in queries(admin_client, path)
    ]
    assert not [sql for sql in asked if re.search(r'SELECT[^;]*"vector"[^;]*FROM "embeddings_embedding"', sql)]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_a_library_becomes_markup(admin_client: Client, text: str, settings: Any, tmp_path: Path) -> None:
    """What comes from files and people stands in no attribute that Alpine reads, and nowhere as a tag."""
    job = finished_job("a", text, message=text, traceback=text)
    Track.objects.update(title=text, artist=text, album=text, path=f"/music/{text}", genre=text)
    make_track("away", path=f"/music/{text}/away.flac", playable=False, away_since=timezone.now())
    settings.LIBRARY, settings.NAVIDROME_DB_PATH = "navidrome", tmp_path / "navidrome.db"
    make_navidrome(settings.NAVIDROME_DB_PATH, libraries={1: "/music", 2: "/other"})
    with closing(sqlite3.connect(settings.NAVIDROME_DB_PATH)) as library, library:
        library.execute("UPDATE library SET name = ? WHERE id = 1", [text])
    elsewhere(kind=text[:64], problem=text)
    Host.objects.update(name=text)
    instance()
    Instance.objects.update(notice=text)
    playlist = save(text, Recipe(like=["x"]), user=text, schedule="weekly")
    Playlist.objects.update(problem=text)
    token = create_token(text[:100], Scope.READ, created_by=text)
    one, other = Track.objects.order_by("pk")[:2]
    for rejected, pair in ((False, (one, other)), (True, (other, one))):
        DuplicatePair.objects.create(
            one=pair[0], other=pair[1], similarity={"muq": 1.0}, same_audio=True, rejected=rejected
        )
    Upload.objects.create(name=text, seconds=1, accepted=True, answer={"renamedFile": text, "warning": text})
    BatchJob.objects.filter(pk=job.pk).update(message=text, started_by=text, path_prefix=text, current_track=text)
    more = [f"/admin/{path}" for path in (f"tracks?q={text}", f"problems?message={text}", "map?by=genre", "nothing")]
    more += [f"/admin/access/token/{path}" for path in ("", f"{token.pk}/change/")]
    replies = {path: admin_client.get(path) for path in [*addresses(), *more, "/panel"]}
    for path in ("/admin/", "/panel"):  # what is said after a button
        said = {"track": one.pk, "other": other.pk, "next": path}
        replies[f"{path} afterwards"] = admin_client.post("/admin/duplicates/reject", said, follow=True)
    replies["forgotten"] = admin_client.post(f"/admin/playlists/{playlist.pk}/forget", follow=True)
    for path, reply in replies.items():
        if not reply["Content-Type"].startswith("text/html"):
            continue
        page = reply.content.decode()
        if "<" in text or "'" in text:
            assert text not in page, path
        tags = re.findall(r"<[a-z][^>]*>", page)
        alpine = [tag for tag in tags if re.search(r"""\s(?:x-[a-z:-]+|@[a-z]+|:[a-z]+)=["'][^"']*hacked""", tag)]
        assert alpine == [], path


def test_parts_are_sent_again_only_when_they_have_changed(admin_client: Client) -> None:
    job = finished_job("a", "b")
    address = f"/admin/jobs/{job.pk}?part=job"
    tag = admin_client.get(address)["ETag"]
    assert admin_client.get(address, headers={"If-None-Match": tag}).status_code == 304
    BatchJob.objects.filter(pk=job.pk).update(message="something else")
    assert admin_client.get(address, headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize(
    ("status", "buttons"),
    [
        ("running", ["pause", "cancel"]),
        ("waiting", ["pause", "cancel"]),
        ("paused", ["cancel", "resume"]),
        ("queued", ["cancel"]),
        ("cancelling", []),
        ("completed", []),
        ("completed_with_errors", ["retry"]),
        ("cancelled", ["resume", "retry"]),
    ],
)
def test_only_possible_buttons_are_shown(admin_client: Client, status: str, buttons: list[str]) -> None:
    job = set_status(finished_job("a", "b"), status)
    page = admin_client.get(f"/admin/jobs/{job.pk}?part=job").content.decode()
    assert sorted(re.findall(rf'formaction="/admin/jobs/{job.pk}/(\w+)"', page)) == sorted(buttons)


def test_a_running_job_is_told_in_words(admin_client: Client) -> None:
    job = set_status(make_job([make_track(name) for name in "abcd"]), "running")
    job.progress.update(succeeded=1, audio_seconds_done=2.0, rate=0.005)
    BatchJob.objects.update(processed_tracks=1, planned=True)
    page = admin_client.get(f"/admin/jobs/{job.pk}?part=job").content.decode()
    assert "25 %" in page
    assert "1 of 4 tracks" in page
    assert "about 20 min left" in page


def test_waiting_job_says_for_what(admin_client: Client) -> None:
    services.set_waiting(services.start_job(JobRequest(["muq"])), "/music is away")
    page = admin_client.get("/admin/?part=hand").content.decode()
    assert "Waiting: /music is away. It goes on by itself." in page


def test_the_course_of_a_job_is_drawn(admin_client: Client) -> None:
    job = set_status(make_job([make_track(f"t{number}") for number in range(60)]), "completed")
    began = timezone.now().replace(microsecond=0) - timedelta(hours=1)
    BatchJob.objects.filter(pk=job.pk).update(started_at=began, finished_at=began + timedelta(minutes=30))
    for number, result in enumerate(job.results.all()):
        at = began + timedelta(minutes=10 + number % 5 if number < 50 else 20)
        TrackResult.objects.filter(pk=result.pk).update(status="succeeded", finished_at=at)
    page = admin_client.get(f"/admin/jobs/{job.pk}?part=job_pace").content.decode()
    rates = [int(each) for each in re.findall(r"<title>(\d+) per minute", page)]
    assert (len(rates), sum(rates), rates[20]) == (60, 120, 20)


def test_a_job_tells_where_its_time_went(admin_client: Client) -> None:
    job = finished_job("a", "b")
    within = {"decode_seconds": 20, "device_seconds": 60}
    BatchJob.objects.update(embedder_seconds=90, database_seconds=6, index_seconds=4, **within)
    page = admin_client.get(f"/admin/jobs/{job.pk}?part=job").content.decode()
    assert re.findall(r"(\d+) % ·", page) == ["90", "6", "4", "25", "75"]


def test_waiting_job_says_when_it_tries_again(admin_client: Client) -> None:
    job = services.start_job(JobRequest(["muq"]))
    services.set_waiting(job, "/music is away", seconds=400)
    page = admin_client.get(f"/admin/jobs/{job.pk}?part=job").content.decode()
    assert re.search(r"Waiting: /music is away; tries again in [56] min", page)


def test_the_sign_in_offers_no_way_to_itself(client: Client) -> None:
    assert "Return to site" not in client.get("/admin/login/").content.decode()


def test_home_guides_who_has_nothing_yet(admin_client: Client) -> None:
    page = admin_client.get("/admin/").content.decode()
    assert "Setting up" in page
    assert "Start a job" in page


def test_who_leaves_a_model_out_is_set_up(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    lack = {key: {"problem": "no weights", "download_bytes": 1, "text": None} for key in MODEL_KEYS}
    monkeypatch.setattr("navembed_site.console.health.models.get", lambda: lack)
    page = admin_client.get("/admin/").content.decode()
    assert "Setting up" in page
    assert 'name="model" value="mert"' in page
    finished_job("a", "b")
    forget()
    page = admin_client.get("/admin/").content.decode()
    assert "Setting up" not in page
    assert 'name="model" value="mert" class="nv-button">Download weights' in page


def test_home_tells_what_is_away_what_is_needed_and_what_comes_next(
    admin_client: Client, readable: None, settings: Any
) -> None:
    settings.SCHEDULE = time(3, 30)
    make_track("a", path="/music/nas/a.flac", playable=False, away_since=timezone.now())
    instance()
    Instance.objects.update(notice="muq's collection belongs to another instance: adopt_milvus takes it over")
    page = admin_client.get("/admin/?part=health").content.decode()
    assert "1 below /music/nas, since just now" in page
    assert "Muq&#x27;s collection belongs to another instance: adopt_milvus takes it over" in page
    assert f"{next_at():%A, %-d %B, 03:30}" in page
    assert "free; nothing is missing" in page


def test_home_shows_how_much_is_embedded(admin_client: Client) -> None:
    finished_job("a", "b", "c")
    page = admin_client.get("/admin/?part=cards").content.decode()
    assert "<b>2</b> of 3 embedded" in page


def test_home_shows_other_hosts_and_what_keeps_them_from_working(admin_client: Client) -> None:
    other = elsewhere(kind="RTX 3060 (cuda)", problem="no music")
    assert "RTX 3060 (cuda): no music" in admin_client.get("/admin/?part=health").content.decode()
    Host.objects.filter(pk=other.host_id).update(seen_at="2024-01-01T00:00Z")
    health.signs.forget()
    assert "It was last seen 1 Jan 2024" in admin_client.get("/admin/?part=health").content.decode()


def test_a_finished_build_waits_for_a_yes(admin_client: Client) -> None:
    make_space("muq")
    build = make_space("muq", "g", status="building")
    assert f"/admin/versions/{build.pk}/make-live" in admin_client.get("/admin/?part=cards").content.decode()
    assert "waits for a yes" in admin_client.get("/admin/versions").content.decode()


def test_what_a_cancelled_job_built_is_not_offered(admin_client: Client) -> None:
    make_space("muq")
    build = make_space("muq", "g", status="building")
    job = set_status(services.start_job(JobRequest(["muq"])), "cancelled")
    job.progress.update(space=build)
    for path in ("/admin/?part=cards", "/admin/versions"):
        page = admin_client.get(path).content.decode()
        assert "make-live" not in page
        assert f'href="/admin/jobs/{job.pk}">Go on' in page


def test_uploads_tell_what_became_of_them(admin_client: Client) -> None:
    similar = {
        "file": "x",
        "similarity": 0.97,
        "confirmed": True,
        "track_id": "t/1",
        "title": "A <song>",
        "artist": "B",
        "path": "",
    }
    other = {"file": "y", "similarity": 0.9, "confirmed": False, "track_id": "", "upload": "z.mp3"}
    for name, accepted, answer in [
        (
            "a.flac",
            True,
            {"renamedFile": "b.flac", "duplicates": ["x"], "splitFiles": [{}, {}], "matches": [similar, other]},
        ),
        ("c.flac", True, {"renamedFile": "", "duplicates": ["c.flac"]}),
        ("d.txt", False, {"status": "error", "message": "d.txt is not music"}),
    ]:
        Upload.objects.create(name=name, seconds=1.0, accepted=accepted, answer=answer)
    page = admin_client.get("/admin/uploads").content.decode()
    for told in (
        "named b.flac; split into 2 tracks; the library has 1 of them already",
        "the library has it already",
        "d.txt is not music",
        'x is the same as <a href="/admin/track/t/1">A &lt;song&gt; by B</a> (0.97)',
        "y only sounds like z.mp3, which was uploaded (0.90)",
    ):
        assert told in page


def test_duplicates_are_shown_by_group_with_their_evidence(admin_client: Client) -> None:
    DuplicateLook.objects.create(looked_at=timezone.now())
    tracks = [make_track(name) for name in "abcde"]
    both, one = {"muq": 0.97, "mert": 0.95}, {"muq": 0.97}
    for first, second, similarity in ((0, 1, both), (1, 2, both), (3, 4, one)):
        found = {"similarity": similarity, "same_audio": False}
        DuplicatePair.objects.create(one=tracks[first], other=tracks[second], **found)
    page: Any = admin_client.get("/admin/duplicates?models=mert")
    assert [[copy.track.pk for copy in group] for group in page.context["groups"]] == [["a", "b", "c"]]
    assert "sounds the same" in page.content.decode()
    for asked in ("", "?models=muq"):
        assert len(admin_client.get(f"/admin/duplicates{asked}").context["groups"]) == 2


def test_it_is_said_when_not_all_duplicates_are_shown(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    tracks = [make_track(name) for name in "abc"]
    for other in tracks[1:]:
        DuplicatePair.objects.create(one=tracks[0], other=other, similarity={}, same_audio=True)
    assert "There are more than" not in admin_client.get("/admin/duplicates").content.decode()
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 1)
    assert "There are more than 1 pairs" in admin_client.get("/admin/duplicates").content.decode()


def test_one_track_at_a_time_is_looked_at_for_duplicates(admin_client: Client) -> None:
    make_track("a")
    with duplicates._one_at_a_time:
        page = admin_client.get("/admin/duplicates/of/a").content.decode()
    assert "Another track is being compared." in page
    assert 'data-ask="/admin/duplicates/of/a"' in page
    assert "Another track" not in admin_client.get("/admin/duplicates/of/a").content.decode()


def test_files_that_are_missing_are_one_reason_and_what_home_counts_is_listed(admin_client: Client) -> None:
    job = make_job([make_track(name) for name in "abc"], MODEL_KEYS)
    failed = {"status": "failed", "finished_at": timezone.now(), "error_class": "AudioFileMissing"}
    for result in job.results.all():
        TrackResult.objects.filter(pk=result.pk).update(error_message=f"no such file: {result.track.path}", **failed)
    for number, name in enumerate("de"):  # of another kind each
        bad(make_track(name), message=f"cut off after {number} s")
    set_status(job, "completed_with_errors")
    assert "5 failed" in admin_client.get("/admin/?part=cards").content.decode()
    page: Any = admin_client.get("/admin/problems")
    assert [(group["message"], group["files"]) for group in page.context["reasons"]] == [
        ("no such file", 3), ("cut off after 0 s", 1), ("cut off after 1 s", 1)
    ]  # fmt: skip
    files: Any = admin_client.get("/admin/problems?show=passing&class=AudioFileMissing&message=no+such+file")
    assert len(files.context["page"]) == 9
    assert files.content.decode().count("/music/a.flac") == 3  # one for each model
    page = admin_client.get(f"/admin/jobs/{job.pk}?part=job_reasons")
    assert page.content.decode().count("nv-reason") == 2


def test_reasons_that_are_not_shown_are_counted(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    job = finished_job("a", "b")
    for result in job.results.filter(status="failed"):
        TrackResult.objects.filter(pk=result.pk).update(error_message=f"reason {result.model}")
    monkeypatch.setattr(jobs, "REASONS_SHOWN", 1)
    assert "And 2 more reasons" in admin_client.get(f"/admin/jobs/{job.pk}?part=job_reasons").content.decode()


@pytest.mark.parametrize(
    "path", ["problems?message=%00", "jobs/1/failures?class=%00", "track/%00", "find?like=%00", "auth/user/?q=%00"]
)
def test_what_no_database_takes_is_not_understood(admin_client: Client, path: str) -> None:
    assert admin_client.get(f"/admin/{path}").status_code == 400
    assert admin_client.post("/admin/problems/ignore", {"message": "\0"}).status_code == 400


def test_one_wrong_field_leaves_the_others(admin_client: Client) -> None:
    page: Any = admin_client.get("/admin/find?q=slow&avoid=drums&diversity=101&models=muq")
    assert (page.context["q"], page.context["avoid"], page.context["chosen"]) == ("slow", "drums", ["muq"])
    assert "Diversity: Ensure this value is less than or equal to 100." in page.content.decode()
    long = admin_client.get(f"/admin/find?avoid=drums&q={'a' * 501}").content.decode()
    assert f'value="{"a" * 501}"' in long
    assert 'value="drums"' in long


def test_what_is_gone_cannot_be_played(admin_client: Client) -> None:
    track = make_track("a", playable=False)
    assert "data-play" not in admin_client.get("/admin/track/a").content.decode()
    Track.objects.filter(pk=track.pk).update(playable=True)
    assert "data-play" in admin_client.get("/admin/track/a").content.decode()


def test_failures_have_their_files_and_tracebacks(admin_client: Client) -> None:
    job = finished_job("good", "broken", traceback="Traceback: deep inside")
    page = admin_client.get(f"/admin/jobs/{job.pk}/failures?message=it+is+damaged").content.decode()
    assert "broken" in page
    assert "deep inside" in page


@pytest.mark.parametrize("path", ["jobs/999999", "track/nobody", "audio/nobody", "jobs/999999/failures"])
def test_what_is_not_there_is_not_found(admin_client: Client, path: str) -> None:
    assert admin_client.get(f"/admin/{path}").status_code == 404


@pytest.mark.parametrize("page", ["0", "-1", "x", "999999"])
def test_odd_pages_show_something(admin_client: Client, page: str) -> None:
    finished_job("a", "b")
    assert admin_client.get(f"/admin/jobs?page={page}&status=nonsense").status_code == 200


def test_tracks_are_found_by_any_of_their_words(admin_client: Client) -> None:
    make_track("one", title="Gymnopédie", artist="Satie")
    make_track("two", title="Asche", artist="Rußwerk")
    page: Any = admin_client.get("/admin/tracks?q=satie+gymn")
    assert [track.pk for track in page.context["page"]] == ["one"]


def test_a_track_shows_its_vectors_and_results(admin_client: Client) -> None:
    track = make_track("a")
    make_embedding(make_space("muq"), track)
    make_job([track])
    TrackResult.objects.update(status="failed", error_message="it broke", finished_at=timezone.now())
    page = admin_client.get("/admin/track/a").content.decode()
    assert "1 window" in page
    assert "it broke" in page


def test_an_embedder_that_is_starting_is_no_fault(admin_client: Client, settings: Any, tmp_path: Path) -> None:
    settings.NAVEMBED_HOME, settings.EMBEDDER_SOCKET = tmp_path, tmp_path / "embedder.sock"
    stopped = "It does not run: `manage.py serve` starts everything"
    health.signs.forget()
    before = admin_client.get("/admin/?part=health").content.decode()
    health.signs.forget()
    with hold(lock_name(0)):
        page = admin_client.get("/admin/?part=health").content.decode()
    assert "It is starting, which takes some seconds" in page
    assert page.count(stopped) == before.count(stopped) - 1
