"""Tracks: what is known of one, how to find it, and embedding it anew."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from batches.models import BatchJob
from embeddings.models import Track
from tests.api.conftest import SESSION, page_through
from tests.batches.rows import make_embedding, make_job, make_space, make_track, set_status

pytestmark = [pytest.mark.django_db, pytest.mark.database]

URL = "/api/v1/tracks"


def found(client: Client, **query: Any) -> list[str]:
    return [track["id"] for track in client.get(URL, query).json()["results"]]


def reembed(client: Client, track_id: str, body: Any = None, **headers: str) -> Any:
    return client.post(
        f"{URL}/{track_id}/reembed", json.dumps(body or {}), content_type="application/json", headers=headers
    )


def test_track_shows_its_vectors_and_whether_they_are_up_to_date(client: Client) -> None:
    track = make_track("a")
    make_embedding(make_space("muq", "f1"), track, windows=6, index_state="indexed")
    make_embedding(make_space("mert", "f2", status="kept"), track, size=1)
    shown = client.get(f"{URL}/a").json()
    assert [(e["model"], e["status"], e["fingerprint"], e["up_to_date"]) for e in shown["embeddings"]] == [
        ("mert", "kept", "f2", False),
        ("muq", "live", "f1", True),
    ]
    assert (shown["embeddings"][1]["windows"], shown["embeddings"][1]["index_state"]) == (6, "indexed")
    assert "vector" not in shown["embeddings"][1]


def test_track_shows_the_last_error_of_each_model(client: Client) -> None:
    track = make_track("a")
    for message in ("old", "new"):
        job = set_status(make_job([track], ["muq", "mert"]), "failed")
        job.results.update(status="failed", error_class="AudioError", error_message=message)
    errors = client.get(f"{URL}/a").json()["errors"]
    assert [(e["model"], e["error_message"], e["job"]) for e in errors] == [
        ("mert", "new", job.pk),
        ("muq", "new", job.pk),
    ]


@pytest.mark.parametrize("track_id", ["unknown", "%00", "a%2Fb", "..", "%F0%9F%8E%B5"])
def test_unknown_track(client: Client, track_id: str) -> None:
    assert client.get(f"{URL}/{track_id}").status_code == 404


def test_search_by_text_and_path(client: Client) -> None:
    make_track("a", title="Gymnopédie No. 1", artist="Erik Satie", path="/music/Satie/1.mp3")
    make_track("b", title="100 % Satie", artist="Somebody", path="/music/Other/1.mp3", playable=False)
    assert found(client, q="satie") == ["a", "b"]
    assert found(client, q="0 %") == ["b"]
    assert found(client, path_prefix="/music/Satie/") == ["a"]
    assert found(client, path_prefix="/MUSIC/satie/") == []
    assert found(client, q="satie", playable="true") == ["a"]
    assert found(client, library_id=2) == []


def test_list_shows_which_models_have_a_vector_at_a_constant_cost(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    space = make_space("muq")
    for number in range(3):
        make_embedding(space, make_track(f"t{number}"))
    with django_assert_num_queries(SESSION + 2):  # the tracks, and their vectors' spaces
        page = client.get(URL).json()
    assert [track["models"] for track in page["results"]] == [["muq"]] * 3


def test_pages_hold_every_track_once_whatever_their_ids(client: Client) -> None:
    ids = sorted(["a", "a&b=c", "ß", "日本", "z z", "100%", "\\"])
    for track_id in ids:
        make_track(track_id)
    assert sorted(track["id"] for track in page_through(client, f"{URL}?page_size=2")) == ids


def test_reembedding_starts_a_job_over_this_track_alone(client: Client) -> None:
    make_track("a")
    reply = reembed(client, "a", {"models": ["mert"]})
    job = BatchJob.objects.get(pk=reply.json()["id"])
    assert (reply.status_code, job.only_track, job.model_keys, job.clear_existing) == (201, "a", ["mert"], True)
    assert job.is_restricted


def test_reembedding_twice_with_one_key_is_one_job(client: Client) -> None:
    make_track("a")
    replies = [reembed(client, "a", **{"Idempotency-Key": "k"}) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [201, 200]
    assert BatchJob.objects.count() == 1


def test_track_that_is_gone_cannot_be_embedded(client: Client) -> None:
    Track.objects.filter(pk=make_track("a").pk).update(playable=False)
    assert reembed(client, "a").status_code == 409
