"""The small page for those whose Navidrome has no panel."""

from __future__ import annotations

import pytest
from django.test import Client

from batches.events import text_of
from batches.models import BatchJob
from tests.batches.rows import make_job, make_track, set_status
from tests.console.conftest import HOSTILE, Person

pytestmark = [pytest.mark.django_db, pytest.mark.database]

ASKED = {"models": ["muq", "latent"], "clear": "on", "next": "/panel"}


def test_a_job_is_started_joined_and_cancelled(person: Person) -> None:
    operator = person("operator")
    for _ in range(2):
        assert operator.post("/panel/start", ASKED)["Location"] == "/panel"
    job = BatchJob.objects.get()
    assert (job.model_keys, job.clear_existing) == (["muq", "latent"], True)
    assert text_of(job.events.get()).startswith("Asked for by the operator in the panel: everything anew")
    operator.post("/panel/cancel")
    job.refresh_from_db()
    assert job.status == "cancelling"


def test_another_job_is_refused_and_not_queued(person: Person) -> None:
    operator = person("operator")
    operator.post("/panel/start", ASKED)
    page = operator.post("/panel/start", {"models": ["mert"], "next": "/panel"}, follow=True).content.decode()
    assert "is already running" in page
    assert BatchJob.objects.count() == 1


def test_progress_is_told_and_nothing_of_a_name_is_run(admin_client: Client) -> None:
    job = set_status(make_job([make_track(name) for name in "abcd"]), "running")
    job.progress.update(succeeded=1)
    BatchJob.objects.update(processed_tracks=1, planned=True, current_track=HOSTILE[0])
    page = admin_client.get("/panel?part=panel_job").content.decode()
    assert "1 of 4 tracks (25 %)" in page
    assert HOSTILE[0] not in page


def test_a_viewer_looks_on_and_others_sign_in(person: Person, client: Client) -> None:
    page = person("viewer").get("/panel").content.decode()
    assert "needs the role operator" in page
    assert "panel/start" not in page
    assert client.get("/panel")["Location"].startswith("/admin/login/?next=/panel")
