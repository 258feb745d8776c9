"""Models and spaces: where models are loaded, which vectors search uses, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from embeddings.encoders.registry import MODEL_KEYS, TEXT_MODEL
from embeddings.models import EmbeddingSpace
from embeddings.spaces.lifecycle import live_space
from tests.api.conftest import SESSION
from tests.batches.rows import make_embedding, make_space, make_track
from tests.instances import EmbedderProcess

pytestmark = pytest.mark.django_db


@pytest.fixture
def no_embedder(settings: Any, tmp_path: Path) -> None:
    settings.NAVEMBED_HOME, settings.EMBEDDER_SOCKET = tmp_path, tmp_path / "nobody.sock"


def test_models_show_where_they_are_loaded(client: Client, embedder: EmbedderProcess) -> None:
    page = client.get("/api/v1/models").json()
    assert [model["key"] for model in page["results"]] == [*MODEL_KEYS, TEXT_MODEL.key]
    assert client.get(f"/api/v1/models/{TEXT_MODEL.key}").json()["hears"] is False
    (place,) = page["results"][0]["embedders"]
    assert (place["reachable"], place["error"], place["device"]) == (True, "", "cpu")


@pytest.mark.usefixtures("no_embedder")
def test_embedder_that_is_away_is_no_error(client: Client) -> None:
    (place,) = client.get("/api/v1/models/muq").json()["embedders"]
    assert (place["reachable"], place["loaded"]) == (False, False)
    assert "no embedder listens" in place["error"]


def test_unloading_says_what_it_did(client: Client, embedder: EmbedderProcess) -> None:
    reply = client.post("/api/v1/models/muq/unload").json()
    assert reply == {"embedders": [{"embedder": 0, "unloaded": reply["embedders"][0]["unloaded"], "error": ""}]}


@pytest.mark.usefixtures("no_embedder")
def test_unloading_in_an_embedder_that_is_away(client: Client) -> None:
    (place,) = client.post("/api/v1/models/muq/unload").json()["embedders"]
    assert (place["unloaded"], "no embedder listens" in place["error"]) == (False, True)


@pytest.mark.parametrize("address", ["/api/v1/models/vggish", "/api/v1/models/vggish/unload", "/api/v1/spaces/77"])
def test_unknown(client: Client, address: str) -> None:
    assert (client.post if "unload" in address else client.get)(address).status_code == 404


# Spaces


@pytest.fixture
def two_spaces() -> tuple[EmbeddingSpace, EmbeddingSpace]:
    """What search uses, and what it used before."""
    live, kept = make_space("muq", "new"), make_space("muq", "old", status="kept")
    make_embedding(live, make_track("a"))
    return live, kept


def test_spaces_show_what_search_uses(
    client: Client,
    two_spaces: tuple[EmbeddingSpace, EmbeddingSpace],
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    with django_assert_num_queries(SESSION + 1):
        rows = client.get("/api/v1/spaces").json()["results"]
    assert [(row["status"], row["vectors"]) for row in rows] == [("live", 1), ("kept", 0)]
    assert rows[0]["bytes"] > 0
    assert [row["id"] for row in client.get("/api/v1/spaces?status=kept").json()["results"]] == [two_spaces[1].pk]


def test_going_back(client: Client, two_spaces: tuple[EmbeddingSpace, EmbeddingSpace]) -> None:
    reply = client.post(f"/api/v1/spaces/{two_spaces[1].pk}/rollback").json()
    assert live_space("muq") == two_spaces[1]
    assert (reply["live"]["id"], reply["live"]["status"]) == (two_spaces[1].pk, "live")
    assert "Milvus could not be told yet" in reply["warning"]


def test_only_kept_vectors_can_be_gone_back_to(
    client: Client, two_spaces: tuple[EmbeddingSpace, EmbeddingSpace]
) -> None:
    assert client.post(f"/api/v1/spaces/{two_spaces[0].pk}/rollback").status_code == 409


def test_going_back_needs_the_scope_admin(two_spaces: tuple[EmbeddingSpace, EmbeddingSpace]) -> None:
    operator = User.objects.create_user("operator", is_staff=True)
    operator.user_permissions.add(Permission.objects.get(codename="add_batchjob"))
    client = Client()
    client.force_login(operator)
    reply = client.post(f"/api/v1/spaces/{two_spaces[1].pk}/rollback")
    assert (reply.status_code, reply["Content-Type"]) == (403, "application/problem+json")
