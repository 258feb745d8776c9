"""What buttons and forms do."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django_q.models import OrmQ

from batches import services
from batches.models import BatchJob, TrackResult
from batches.requests import JobRequest
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.models import BadFile, DuplicatePair, Playlist, Track
from embeddings.playlists.recipe import Recipe, kept
from embeddings.playlists.service import save
from navembed_site.console import health, weights
from navembed_site.process.locks import hold
from tests.batches.conftest import Music, music, pool
from tests.batches.rows import elsewhere, make_job, make_track, set_status
from tests.console.conftest import Person, bad, finished_job

__all__ = ["music", "pool"]

pytestmark = pytest.mark.django_db


def press(client: Client, path: str, **fields: str) -> list[str]:
    """Press a button; returns what the next page says."""
    reply: Any = client.post(f"/admin/{path}", fields, follow=True)
    assert reply.status_code == 200
    return [str(message) for message in reply.context["messages"]]


@pytest.mark.parametrize(
    ("button", "before", "after"),
    [
        ("pause", "running", "pausing"),
        ("cancel", "running", "cancelling"),
        ("cancel", "paused", "cancelled"),
        ("resume", "paused", "initialized"),
        ("resume", "cancelled", "initialized"),
    ],
)
def test_one_click_steers_a_job(admin_client: Client, button: str, before: str, after: str) -> None:
    job = set_status(services.start_job(JobRequest(["muq"])), before)
    press(admin_client, f"jobs/{job.pk}/{button}")
    job.refresh_from_db()
    assert job.status == after


@pytest.mark.parametrize("button", ["pause", "cancel", "resume", "retry"])
def test_a_click_that_comes_too_late_says_so(admin_client: Client, button: str) -> None:
    job = set_status(services.start_job(), "completed")
    assert f"ob {job.pk} is completed" in press(admin_client, f"jobs/{job.pk}/{button}")[0]


def test_a_job_tells_who_steered_it(admin_client: Client) -> None:
    job = set_status(services.start_job(JobRequest(["muq"])), "running")
    press(admin_client, f"jobs/{job.pk}/pause")
    page = admin_client.get(f"/admin/jobs/{job.pk}?part=job").content.decode()
    assert "Asked to pause by admin in the console." in page


def test_buttons_lead_back_to_their_page_and_nowhere_else(admin_client: Client) -> None:
    job = services.start_job(JobRequest(["muq"]))
    reply = admin_client.post(f"/admin/jobs/{job.pk}/pause", {"next": "/admin/jobs?page=2"})
    assert reply["Location"] == "/admin/jobs?page=2"
    reply = admin_client.post(f"/admin/jobs/{job.pk}/pause", {"next": "https://evil.example/"})
    assert reply["Location"] == "/admin/"


def test_retry_tries_all_failures_again(admin_client: Client) -> None:
    job = finished_job("a", "b")
    press(admin_client, f"jobs/{job.pk}/retry")
    assert not TrackResult.objects.filter(status="failed").exists()


def test_retry_of_one_reason_leaves_the_others(admin_client: Client) -> None:
    job = finished_job("a", "b")
    job.results.filter(model="muq", status="failed").update(error_message="another reason")
    press(admin_client, f"jobs/{job.pk}/retry", message="another reason")
    assert set(job.results.filter(status="failed").values_list("model", flat=True)) == {"mert", "latent"}
    assert [row.failed for row in job.progress.order_by("model")] == [1, 1, 0]
    job.refresh_from_db()
    assert job.failed_tracks == 0  # its last model is not done


def test_ignored_failures_are_no_problem_any_more(admin_client: Client) -> None:
    job = finished_job("a", "b")
    assert press(admin_client, f"jobs/{job.pk}/ignore", message="it is damaged") == [
        "1 file is ignored until it changes."
    ]
    assert not BadFile.objects.filter(ignored=False).exists()
    assert "it is damaged" not in admin_client.get("/admin/problems").content.decode()
    assert "1 ignored" in admin_client.get("/admin/?part=cards").content.decode()


def test_problems_are_ignored_by_reason_and_counted_again(admin_client: Client) -> None:
    for number, reason in enumerate(["cut off", "cut off", "empty"]):
        bad(make_track(f"t{number}"), message=reason)
    bad(Track.objects.get(pk="t0"), "mert", message="another reason")
    press(admin_client, "problems/ignore", message="cut off")
    ignored = BadFile.objects.filter(ignored=True)
    assert set(ignored.values_list("track", "model")) == {("t0", "muq"), ("t1", "muq")}
    press(admin_client, "problems/notice", message="cut off")
    assert not ignored.exists()


@pytest.mark.parametrize(
    ("asked", "models", "fields"),
    [
        ({}, ["muq", "mert"], {}),
        ({"model": "mert"}, ["mert"], {}),
        ({"class": "AudioFileMissing", "message": "no such file"}, ["mert"], {"failed_with": "no such file"}),
        ({"track": "a", "model": "muq"}, ["muq"], {"only_track": "a"}),
    ],
)
def test_only_what_has_failed_is_tried_again(
    admin_client: Client, asked: dict[str, str], models: list[str], fields: dict[str, str]
) -> None:
    bad(make_track("a"))
    away = set_status(make_job([make_track("b")], ["mert"]), "completed_with_errors")
    away.results.update(status="failed", error_class="AudioFileMissing", error_message="no such file: /b")
    press(admin_client, "problems/retry", **asked)
    job = BatchJob.objects.latest("pk")
    assert JobRequest.of(job) == JobRequest(models, only_failed=True, retry_bad_files=True, **fields)


def test_what_has_not_failed_is_not_tried_again(admin_client: Client) -> None:
    bad(make_track("a"), ignored=True)
    assert press(admin_client, "problems/retry", model="muq") == ["Nothing of this has failed any more."]
    assert not BatchJob.objects.exists()


def test_what_the_next_job_tries_again_is_not_ignored(admin_client: Client) -> None:
    job = finished_job("a", "b")
    BadFile.objects.all().delete()
    assert "Ignore these" not in admin_client.get(f"/admin/jobs/{job.pk}?part=job_reasons").content.decode()
    assert "the next job tries these again" in press(admin_client, f"jobs/{job.pk}/ignore", message="it is damaged")[0]


def test_a_track_is_embedded_anew(admin_client: Client) -> None:
    make_track("a/b?c")
    press(admin_client, "reembed/a/b%3Fc")
    job = BatchJob.objects.get()
    assert (job.only_track, job.clear_existing) == ("a/b?c", True)


def test_a_track_that_is_gone_is_not_embedded(admin_client: Client) -> None:
    make_track("a", playable=False)
    assert "not in the library" in press(admin_client, "reembed/a")[0]
    assert not BatchJob.objects.exists()


# Starting


WANTED = {"models": ["mert", "muq"], "extent": "missing", "limit": "5", "path_prefix": ""}


def test_the_form_starts_a_job(admin_client: Client, music: Music) -> None:
    reply = admin_client.post("/admin/jobs/begin", WANTED)
    job = BatchJob.objects.get()
    assert reply["Location"] == f"/admin/jobs/{job.pk}"
    assert (job.model_keys, job.limit, job.started_by, job.clear_existing) == (["muq", "mert"], 5, "admin", False)


def test_what_it_would_do_is_shown_before(admin_client: Client, music: Music) -> None:
    music.add("a.flac")
    page = admin_client.get("/admin/jobs/new?models=muq&part=preview").content.decode()
    assert page.count('formaction="/admin/jobs/begin"') == 1
    assert "vector to compute, of 1 track" in page
    assert not Track.objects.exists()


def test_what_all_anew_would_cost_is_shown_in_a_dialog(admin_client: Client, music: Music) -> None:
    music.add("a.flac")
    page = admin_client.get("/admin/jobs/new?models=muq&extent=all&part=anew").content.decode()
    assert "1, of 1 track" in page
    assert re.search(r"kB of .* free", page)
    assert '<input type="hidden" name="extent" value="all">' in page
    assert (
        'data-open="/admin/jobs/new?models=muq&amp;extent=all&amp;part=anew"'
        in admin_client.get("/admin/").content.decode()
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"models": []}, "Choose at least one model."),
        ({"limit": "0"}, "limit is a whole number from 1"),
        ({"path_prefix": "/nowhere"}, "no track&#x27;s path begins with /nowhere"),
    ],
)
def test_what_is_refused_stays_in_the_form(admin_client: Client, music: Music, wrong: Any, told: str) -> None:
    reply = admin_client.post("/admin/jobs/begin", WANTED | {"limit": "7"} | wrong)
    page = reply.content.decode()
    assert reply.status_code == 422
    assert told in page
    assert 'value="7"' in page or 'value="0"' in page
    assert not BatchJob.objects.exists()


def test_a_job_beside_another_is_queued(admin_client: Client, music: Music) -> None:
    services.start_job()
    admin_client.post("/admin/jobs/begin", WANTED)
    assert list(BatchJob.objects.values_list("status", flat=True)) == ["queued", "initialized"]


@pytest.mark.parametrize(("kind", "is_ticked"), [("cpu", False), ("RTX 3060 (cuda)", True)])
def test_slow_model_is_not_ticked_where_it_would_take_days(
    admin_client: Client, music: Music, kind: str, is_ticked: bool
) -> None:
    elsewhere(kind=kind)
    page: Any = admin_client.get("/admin/jobs/new")
    assert ("mert" in page.context["form"]["models"].value()) is is_ticked
    ticked = re.findall(r'value="(\w+)" checked', admin_client.get("/panel").content.decode())
    assert ticked == [key for key in MODEL_KEYS if is_ticked or key != "mert"]


def test_folders_complete_what_is_typed(admin_client: Client) -> None:
    for number, path in enumerate(["/m/Satie/1.flac", "/m/Satie/2.flac", "/m/Sati/x/3.flac", "/n/4.flac"]):
        make_track(str(number), path=path)
    assert admin_client.get("/admin/jobs/folders?prefix=/m/S").json() == ["/m/Sati/", "/m/Satie/"]
    assert admin_client.get("/admin/jobs/folders?prefix=/m/Satie/").json() == []


# Weights


def test_a_second_download_is_refused(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    lack = {key: {"problem": "missing", "download_bytes": 1, "text": None} for key in MODEL_KEYS}
    monkeypatch.setattr("navembed_site.console.health.models.get", lambda: lack)
    with hold(weights.LOCK):
        assert press(admin_client, "fetch-weights") == ["The download is running already."]


def test_the_download_goes_on_by_itself_and_tells_how_it_ended(settings: Any, tmp_path: Path) -> None:
    """There is no network here, which is what it says."""
    settings.LOG_DIR, settings.CHECKPOINT_DIR = tmp_path, tmp_path / "checkpoints"
    health.models.forget()
    weights.begin(["latent"])
    assert weights.download().is_running
    while weights.download().is_running:
        time.sleep(0.1)
    assert weights.download().line.endswith("no usable weights for latent")


def test_how_far_the_download_is(settings: Any, tmp_path: Path) -> None:
    settings.LOG_DIR, settings.CHECKPOINT_DIR = tmp_path, tmp_path / "checkpoints"
    settings.CHECKPOINT_DIR.mkdir()
    (tmp_path / "fetch_models.log").write_text("1000 200\nmuq: 1.0 KB in 1 file\n")
    (settings.CHECKPOINT_DIR / "blob").write_bytes(bytes(700))
    found = weights.download()
    assert (found.percent, found.line, found.is_running) == (50.0, "muq: 1.0 KB in 1 file", False)


def test_what_was_found_is_saved_as_a_playlist_of_the_same_question(admin_client: Client, settings: Any) -> None:
    settings.SUBSONIC_USER = "ann"
    liked, unliked = make_track("a"), make_track("b")
    asked = {"q": "slow", "like": liked.pk, "unlike": unliked.pk, "models": "mert", "diversity": "40", "dislike": "60"}
    fields = {"name": "Night", "schedule": "weekly", "limit": "30", "avoid": "drums", "fresh": "on"}
    [told] = press(admin_client, "find/save", **asked, **fields)
    assert told.startswith("No track was found for the playlist.")  # nothing is embedded here
    playlist = Playlist.objects.get(name="Night", user="ann", schedule="weekly")
    assert kept(playlist) == Recipe(
        like=["a"], unlike=["b"], path=[], cluster=[], text="slow", avoid="drums", models=["mert"], limit=30,
        diversity=0.4, dislike_strength=0.6, fresh=True,
    )  # fmt: skip


def test_a_playlist_may_be_of_favourites_alone(admin_client: Client, settings: Any) -> None:
    settings.SUBSONIC_USER = "ann"
    assert 'name="favourites"' in admin_client.get("/admin/find").content.decode()
    press(admin_client, "find/save", name="Mine", schedule="weekly", limit="30", favourites="on")
    assert kept(Playlist.objects.get()).favourites


def test_a_playlist_that_cannot_be_is_refused(admin_client: Client, settings: Any) -> None:
    fields = {"name": "Night", "schedule": "weekly", "limit": "30", "q": "slow"}
    told = press(admin_client, "find/save", **{**fields, "limit": "501"})[0]
    assert "Tracks: Ensure this value is less than or equal to 500" in told
    assert "set NAVEMBED_SUBSONIC_URL" in press(admin_client, "find/save", **fields)[0]
    assert not Playlist.objects.exists()


def test_only_an_operator_is_offered_to_save_a_playlist(person: Person) -> None:
    for role, offered in (("viewer", False), ("operator", True)):
        page = person(role).get("/admin/find?q=slow").content.decode()
        assert ("Save as playlist" in page) is offered


def test_a_playlist_is_made_now_or_never_again(admin_client: Client) -> None:
    playlist = save("Night", Recipe(like=["x"]), user="bob", schedule="weekly")
    assert "No track was found" in press(admin_client, f"playlists/{playlist.pk}/make")[0]
    page = admin_client.get("/admin/playlists").content.decode()
    assert all(text in page for text in ("Night", "bob", "weekly", "No track was found"))
    assert "is never made again" in press(admin_client, f"playlists/{playlist.pk}/forget")[0]
    assert not Playlist.objects.exists()


def test_what_is_no_duplicate_is_taken_out_and_can_come_back(admin_client: Client) -> None:
    for name in "ab":
        make_track(name)
    DuplicatePair.objects.create(one_id="a", other_id="b", similarity={}, same_audio=True)
    assert "is no duplicate" in press(admin_client, "duplicates/reject", track="b", other="a")[0]
    assert DuplicatePair.objects.get().rejected
    press(admin_client, "duplicates/accept", track="a", other="b")
    assert not DuplicatePair.objects.get().rejected


def test_looking_for_duplicates_is_done_by_the_light_worker(admin_client: Client) -> None:
    press(admin_client, "duplicates/look")
    assert [message.func() for message in OrmQ.objects.all()] == ["batches.tasks.find_duplicates"]
    assert "Nobody has looked" not in admin_client.get("/admin/duplicates").content.decode()
