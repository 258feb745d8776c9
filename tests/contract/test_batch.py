"""POST /batch/start, GET /batch/progress and POST /batch/cancel."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from tests.contract.client import GoClient, Reply, is_number
from tests.contract.conftest import EVERYWHERE, TERMINAL, Bare, Server, has_ended

KNOWN = ("initialized", "running", *TERMINAL)
STATES = {
    "queued": "initialized", "initialized": "initialized", "running": "running", "waiting": "running",
    "pausing": "running", "paused": "running", "cancelling": "running", "completed": "completed",
    "completed_with_errors": "completed_with_errors", "cancelled": "cancelled", "failed": "failed",
}  # fmt: skip
UNFINISHED = [state for state in STATES if state not in TERMINAL]
ALL = ["muq", "mert", "latent"]
AT_ONCE = 8


@pytest.fixture
def go(bare: Bare) -> GoClient:
    """A client of a server where no worker takes jobs up; none has been started yet."""
    return bare.go


# Start


@pytest.mark.parametrize(
    ("body", "models", "clear"),
    [
        ({"models": ["muq"], "clearExisting": True}, ["muq"], True),
        ({"models": ["latent", "muq"], "clearExisting": False}, ["muq", "latent"], False),
        ({"models": None, "clearExisting": False}, ALL, False),
        ({"models": [], "clearExisting": True}, ALL, True),
        ({"models": ["mert", "mert"]}, ["mert"], False),
        ({"models": ["muq"], "batchSize": {"odd": [1]}}, ["muq"], False),
        ({}, ALL, False),
        (None, ALL, False),
    ],
    ids=str,
)
def test_start_gives_the_jobs_number(go: GoClient, bare: Bare, body: Any, models: list[str], clear: bool) -> None:
    reply = go.post("/batch/start", body)
    assert (reply.status, reply.json["status"]) == (200, "started"), reply
    assert type(reply.json["job_id"]) is int
    [[keys, clears]] = bare.sql("SELECT model_keys, clear_existing FROM batches_batchjob")
    assert (json.loads(keys), bool(clears)) == (models, clear)


@pytest.mark.parametrize(
    "body",
    [
        {"models": ["vggish"]}, {"models": "muq"}, {"models": {"muq": 1}}, {"models": [None]}, {"models": [["muq"]]},
        {"models": ["MUQ"]}, {"models": 3}, {"clearExisting": "perhaps"}, {"clearExisting": None},
        {"clearExisting": [True]}, {"clearExisting": 2}, [], ["muq"], "muq", 3, True,
    ],
    ids=str,
)  # fmt: skip
def test_odd_start_is_refused_with_a_sentence_and_starts_nothing(go: GoClient, body: Any) -> None:
    reply = go.post("/batch/start", body)
    assert (reply.status, reply.is_json) == (422, True), reply
    assert isinstance(reply.json["error"], str)
    assert go.progress() == {"status": "no_job"}


@pytest.mark.parametrize("state", UNFINISHED)
def test_start_while_a_job_is_unfinished_names_it_and_queues_nothing(go: GoClient, bare: Bare, state: str) -> None:
    job = go.start("muq").json["job_id"]
    bare.put(job, state)
    reply = go.start("mert", clear=True)
    assert (reply.status, reply.json["job_id"]) == (400, job)
    assert f"job {job}" in reply.json["error"]
    assert bare.sql("SELECT COUNT(*) FROM batches_batchjob") == [(1,)]


@pytest.mark.parametrize("state", UNFINISHED)
def test_start_of_what_is_unfinished_joins_it(go: GoClient, bare: Bare, state: str) -> None:
    """The panel polls only after it has seen "started": so a page that was reloaded finds its job."""
    job = go.start("mert", "muq", clear=True).json["job_id"]
    bare.put(job, state)
    reply = go.start("muq", "mert", clear=True)
    assert (reply.status, reply.json) == (200, {"status": "started", "job_id": job})
    assert go.start("muq", "mert").status == 400  # without clearing
    assert bare.sql("SELECT COUNT(*) FROM batches_batchjob") == [(1,)]


def test_start_beside_a_job_of_a_part_of_the_library_is_refused(go: GoClient, bare: Bare) -> None:
    job = go.start().json["job_id"]
    bare.sql("UPDATE batches_batchjob SET path_prefix = '/music/a/'")
    assert (go.start().status, go.start().json["job_id"]) == (400, job)


def test_starts_at_the_same_moment_give_one_job(bare: Bare) -> None:
    together = Barrier(AT_ONCE)

    def start(_: int) -> Reply:
        client = GoClient(bare.instance.port)
        together.wait()
        try:
            return client.start()
        finally:
            client.close()

    with ThreadPoolExecutor(AT_ONCE) as threads:
        replies = list(threads.map(start, range(AT_ONCE)))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.json["job_id"] for reply in replies}) == 1


# Progress


def test_no_job_ever(go: GoClient) -> None:
    assert go.progress() == {"status": "no_job"}


def check_types(progress: dict[str, Any]) -> None:
    for name in ("total_tracks", "processed_tracks", "failed_tracks", "job_id"):
        assert type(progress[name]) is int, name
    assert progress["processed_tracks"] + progress["failed_tracks"] <= progress["total_tracks"]
    assert isinstance(progress["progress_percent"], float)
    assert 0 <= progress["progress_percent"] <= 100
    assert progress["current_track"] is None or isinstance(progress["current_track"], str)
    assert progress["status"] in KNOWN
    assert progress["estimated_completion"] is None or is_number(progress["estimated_completion"])


@EVERYWHERE
def test_progress_has_all_fields_with_their_types(client: GoClient) -> None:
    check_types(client.progress())


def test_current_track_is_named_with_its_model(server: Server) -> None:
    server.start_long()
    track = server.wait(lambda now: (now["current_track"] or "").startswith("["))["current_track"]
    assert track.startswith(("[muq] Artist - ", "[mert] Artist - ", "[latent] Artist - "))


def test_fresh_job_has_nothing_to_tell_yet(go: GoClient) -> None:
    go.start("muq")
    progress = go.progress()
    check_types(progress)
    assert (progress["status"], progress["progress_percent"]) == ("initialized", 0.0)
    assert (progress["current_track"], progress["estimated_completion"]) == (None, None)


@pytest.mark.parametrize(("state", "status"), STATES.items())
def test_every_state_reads_as_one_that_clients_know(go: GoClient, bare: Bare, state: str, status: str) -> None:
    bare.put(go.start("muq").json["job_id"], state)
    progress = go.progress()
    check_types(progress)
    assert (progress["state"], progress["status"]) == (state, status)


def test_paused_job_says_so_and_tells_no_time(server: Server) -> None:
    job = server.start_long()
    assert server.instance.run("job", "pause", str(job)).returncode == 0
    paused = server.wait(lambda now: now["state"] == "paused" or has_ended(now))
    assert (paused["status"], paused["current_track"], paused["estimated_completion"]) == ("running", "paused", None)
    server.stop()


def test_unfinished_job_is_shown_before_a_newer_one(go: GoClient, bare: Bare) -> None:
    first = go.start("muq").json["job_id"]
    bare.put(first, "cancelled")
    second = go.start("mert").json["job_id"]
    bare.put(second, "completed")
    assert go.progress()["job_id"] == second
    bare.put(first, "running")
    assert go.progress()["job_id"] == first


def test_job_whose_turn_it_is_is_shown_before_those_in_line(go: GoClient, bare: Bare) -> None:
    first = go.start("muq").json["job_id"]
    bare.put(first, "completed")
    second = go.start("mert").json["job_id"]
    bare.put(first, "queued")
    assert go.progress()["job_id"] == second


def test_a_killed_worker_never_shows_in_the_status(server: Server) -> None:
    job = server.start_long()
    os.kill(server.instance.processes()["worker"]["pid"], signal.SIGKILL)
    seen = {(now["job_id"], now["status"]) for now in (server.go.progress() for _ in range(20))}
    assert seen == {(job, "running")}


@pytest.mark.parametrize("name", ["milvus_lite", "embedder-0"])
def test_progress_is_told_while_a_process_is_frozen(server: Server, name: str) -> None:
    job = server.start_long()
    with server.frozen(name):
        assert [server.go.progress()["job_id"] for _ in range(3)] == [job] * 3


# Cancel


def test_cancel_with_nothing_running(go: GoClient) -> None:
    reply = go.cancel()
    assert (reply.status, reply.is_json) == (404, True)
    assert isinstance(reply.json["error"], str)


def test_cancel_of_a_running_job_repeated_and_to_its_end(server: Server) -> None:
    job = server.start_long()
    for _ in range(3):
        reply = server.go.cancel()
        if reply.status == 404:  # it has ended meanwhile
            break
        assert (reply.status, reply.json["status"]) == (200, "cancelling")
        assert server.go.progress()["status"] in ("running", "cancelled")
    ended = server.wait(has_ended)
    assert (ended["job_id"], ended["status"]) == (job, "cancelled")
    assert server.go.cancel().status == 404


@pytest.mark.parametrize("state", UNFINISHED)
def test_cancel_covers_every_unfinished_job_and_may_be_repeated(go: GoClient, bare: Bare, state: str) -> None:
    job = go.start("muq").json["job_id"]
    bare.put(job, state)
    reply = go.cancel()
    assert (reply.status, reply.json["status"]) == (200, "cancelling")
    after = go.progress()
    assert (after["job_id"], after["state"]) in ((job, "cancelling"), (job, "cancelled"))
    assert go.cancel().status == (200 if after["state"] == "cancelling" else 404)


def test_cancel_covers_also_those_in_line(go: GoClient, bare: Bare) -> None:
    first = go.start("muq").json["job_id"]
    bare.put(first, "completed")
    second = go.start("mert").json["job_id"]
    bare.put(first, "queued")
    assert go.cancel().status == 200
    assert set(bare.sql("SELECT id, status FROM batches_batchjob")) == {(first, "cancelled"), (second, "cancelling")}


def test_cancel_of_a_job_that_waits(idle: Server) -> None:
    folder, away = idle.music.root, idle.music.root.with_name("away")
    folder.rename(away)
    try:
        assert idle.go.start("latent").status == 200
        waiting = idle.wait(lambda now: now["state"] == "waiting")
        assert waiting["status"] == "running"
        assert waiting["current_track"].startswith(f"waiting: the music folder {folder} is ")
        assert waiting["estimated_completion"] is None
        assert idle.go.cancel().json["status"] == "cancelling"
        assert idle.wait(has_ended)["status"] == "cancelled"
    finally:
        away.rename(folder)
