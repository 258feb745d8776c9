"""The console: lists and pages in few queries, a form that starts jobs, actions that change them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from batches import services
from batches.models import BatchJob, TrackResult
from batches.requests import JobRequest
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.models import Embedding, EmbeddingSpace, Track
from tests.batches.conftest import Music
from tests.batches.rows import make_embedding, make_job, make_track, set_status

pytestmark = [pytest.mark.django_db, pytest.mark.database]

MODELS = (BatchJob, TrackResult, Track, EmbeddingSpace, Embedding)


def address(model: Any, page: str = "changelist", *arguments: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=arguments)


def fill(jobs: int) -> None:
    """So many finished jobs, each over two tracks of its own with all models."""
    for number in range(jobs):
        tracks = [make_track(f"{number}-{name}") for name in "ab"]
        job = make_job(tracks, MODEL_KEYS)
        for space in EmbeddingSpace.objects.all():
            make_embedding(space, tracks[0])
        job.results.filter(track=tracks[1]).update(status="failed", error_class="AudioError", error_message="damaged")
        job.progress.update(failed=1)
        BatchJob.objects.filter(pk=job.pk).update(failed_tracks=1)
        set_status(job, "completed_with_errors")


def queries(client: Client, path: str) -> list[str]:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(path).status_code == 200
    return [query["sql"] for query in captured]


@pytest.mark.parametrize("model", MODELS)
def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(admin_client: Client, model: Any) -> None:
    fill(1)
    few = queries(admin_client, address(model))
    more = [make_track(f"x{number}") for number in range(3)]
    set_status(make_job(more, MODEL_KEYS), "completed")
    for space in EmbeddingSpace.objects.all():
        make_embedding(space, more[0])
    assert len(queries(admin_client, address(model))) <= len(few) <= 12


@pytest.mark.parametrize("model", MODELS)
def test_every_row_has_a_page(admin_client: Client, model: Any) -> None:
    fill(1)
    asked = queries(admin_client, address(model, "change", model.objects.first().pk))
    assert len(asked) <= 12


@pytest.mark.parametrize("search", ["", "?q=a", "?q=nothing"])
@pytest.mark.parametrize("model", MODELS)
def test_lists_can_be_searched(admin_client: Client, model: Any, search: str) -> None:
    fill(1)
    assert admin_client.get(address(model) + search).status_code == 200


def test_vectors_are_never_loaded(admin_client: Client) -> None:
    fill(1)
    asked = queries(admin_client, address(Embedding))
    asked += queries(admin_client, address(Embedding, "change", Embedding.objects.defer("vector").first().pk))
    assert not [sql for sql in asked if '"vector"' in sql]


def test_list_shows_how_far_a_job_is(admin_client: Client) -> None:
    job = make_job([make_track(name) for name in "abcd"])
    job.progress.update(succeeded=1)
    BatchJob.objects.update(processed_tracks=1)
    page = admin_client.get(address(BatchJob)).content.decode()
    assert 'value="25.0"' in page
    assert "1 / 4" in page


@pytest.mark.parametrize("page", ["changelist", "change"])
@pytest.mark.parametrize(("status", "is_followed"), [("running", True), ("completed", False)])
def test_pages_follow_unfinished_jobs(admin_client: Client, page: str, status: str, is_followed: bool) -> None:
    job = make_job([make_track("a")])
    set_status(job, status)
    shown = admin_client.get(address(BatchJob, page, *([job.pk] if page == "change" else []))).content.decode()
    assert "/static/batches/live.js" in shown
    assert shown.count(f'data-job="{job.pk}"') == is_followed


@pytest.mark.parametrize("model", MODELS)
def test_nobody_can_edit_or_delete_rows(admin_client: Client, model: Any) -> None:
    fill(1)
    pk = model.objects.first().pk
    assert admin_client.post(address(model, "change", pk), {}).status_code == 403
    assert admin_client.post(address(model, "delete", pk), {"post": "yes"}).status_code == 403
    admin_client.post(address(model), {"action": "delete_selected", "_selected_action": [pk], "post": "yes"})
    assert model.objects.filter(pk=pk).exists()


@pytest.mark.parametrize("model", [TrackResult, Track, EmbeddingSpace, Embedding])
def test_nobody_can_add_rows_that_jobs_write(admin_client: Client, model: Any) -> None:
    assert admin_client.get(address(model, "add")).status_code == 403


# Starting


def test_start_form_has_all_models_ticked(admin_client: Client) -> None:
    page = admin_client.get(address(BatchJob, "add")).content.decode()
    assert page.count('type="checkbox" name="model_keys"') == page.count("checked") == len(MODEL_KEYS)


def test_start_form_starts_a_job(admin_client: Client) -> None:
    wanted = {"model_keys": ["mert", "muq"], "limit": "5", "library_id": "2", "path_prefix": "/music/x"}
    reply = admin_client.post(address(BatchJob, "add"), wanted, follow=True)
    job = BatchJob.objects.get()
    assert reply.status_code == 200
    assert (job.model_keys, job.limit, job.library_id, job.path_prefix) == (["muq", "mert"], 5, 2, "/music/x")
    assert (job.started_by, job.clear_existing, job.status) == ("admin", False, "initialized")


@pytest.mark.parametrize(
    "wrong",
    [{"model_keys": []}, {"limit": "0"}, {"limit": str(2**31)}, {"library_id": "-1"}, {"model_keys": ["vggish"]}],
)
def test_wrong_form_starts_nothing(admin_client: Client, wrong: dict[str, Any]) -> None:
    reply = admin_client.post(address(BatchJob, "add"), {"model_keys": ["muq"]} | wrong)
    assert "errornote" in reply.content.decode()
    assert not BatchJob.objects.exists()


def test_start_beside_a_running_job_waits_in_line(admin_client: Client) -> None:
    services.start_job()
    reply = admin_client.post(address(BatchJob, "add"), {"model_keys": ["muq"]}, follow=True)
    assert messages(reply)[0].endswith("(muq) is queued behind another job.")
    assert list(BatchJob.objects.values_list("status", flat=True)) == ["queued", "initialized"]


@pytest.mark.parametrize("wrong", [{"library_id": "99"}, {"path_prefix": "/nowhere"}])
def test_a_start_that_is_refused_keeps_what_was_filled_in(
    admin_client: Client, music: Music, wrong: dict[str, str]
) -> None:
    reply = admin_client.post(address(BatchJob, "add"), {"model_keys": ["mert"]} | wrong)
    form = reply.context["adminform"].form
    [told] = form.non_field_errors()
    assert told.startswith(("there is no library 99", "no track's path begins with /nowhere"))
    assert form.data.dict() == {"model_keys": "mert"} | wrong
    assert not BatchJob.objects.exists()


# Actions


def act(client: Client, action: str, *jobs: BatchJob) -> list[str]:
    selected = {"action": action, "_selected_action": [job.pk for job in jobs]}
    return messages(client.post(address(BatchJob), selected, follow=True))


def messages(reply: Any) -> list[str]:
    return [str(message) for message in reply.context["messages"]]


def test_cancel(admin_client: Client) -> None:
    job = services.start_job(JobRequest(["muq"]))
    [told] = act(admin_client, "cancel", job)
    assert told.startswith(f"Job {job.pk} (muq) is cancelled after the device batch in hand.")
    job.refresh_from_db()
    assert job.status == "cancelling"


def test_pause(admin_client: Client) -> None:
    job = services.start_job(JobRequest(["muq"]))
    [told] = act(admin_client, "pause", job)
    assert told.startswith(f"Job {job.pk} (muq) pauses after the device batch in hand.")
    job.refresh_from_db()
    assert job.status == "pausing"


@pytest.mark.parametrize(
    ("action", "status", "told"),
    [
        ("pause", "paused", "is paused."),
        ("resume", "queued", "is queued behind another job."),
        ("cancel", "cancelled", "is cancelled."),
    ],
)
def test_action_tells_where_the_job_stands(admin_client: Client, action: str, status: str, told: str) -> None:
    job = set_status(services.start_job(JobRequest(["muq"])), status)
    assert act(admin_client, action, job) == [f"Job {job.pk} (muq) {told}"]


def test_resume(admin_client: Client) -> None:
    job = set_status(services.start_job(), "cancelled")
    act(admin_client, "resume", job)
    job.refresh_from_db()
    assert job.status == "initialized"


def test_retry_failed(admin_client: Client) -> None:
    fill(1)
    act(admin_client, "retry_failed", BatchJob.objects.get())
    assert not TrackResult.objects.filter(status="failed").exists()


def test_action_that_comes_too_late_says_so(admin_client: Client) -> None:
    job = set_status(services.start_job(), "completed")
    for action in ("pause", "cancel", "resume", "retry_failed"):
        assert f"job {job.pk} is completed" in act(admin_client, action, job)[0]


def test_who_may_only_look_can_start_and_change_nothing(client: Client) -> None:
    user = User.objects.create_user("guest", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__startswith="view_"))
    client.force_login(user)
    job = services.start_job()
    assert client.get(address(BatchJob)).status_code == 200
    assert client.get(address(BatchJob, "change", job.pk)).status_code == 200
    assert client.post(address(BatchJob, "add"), {"model_keys": ["muq"]}).status_code == 403
    act(client, "cancel", job)
    job.refresh_from_db()
    assert job.status == "initialized"


def test_results_can_be_filtered_by_model(admin_client: Client) -> None:
    fill(1)
    reply = admin_client.get(address(TrackResult) + "?model=mert&status__exact=failed")
    assert [result.model for result in reply.context["cl"].result_list] == ["mert"]
