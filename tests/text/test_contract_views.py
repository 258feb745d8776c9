"""``/embed_text``, ``/models`` and ``/health`` as the Go server uses them."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import LazySettings
from django.test import Client

from embeddings.api.contract import models as contract
from embeddings.embedder.client import EmbedderClient
from embeddings.embedder.work import Step, TrackRequest
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.models import EmbeddingSpace
from embeddings.search.bridge import Bridge, Origin, write_bridge
from embeddings.search.text import text_vector
from tests.audio_files import tone
from tests.batches.test_last_known import database_away
from tests.index.conftest import unit
from tests.instances import EmbedderProcess
from tests.text.conftest import live

pytestmark = pytest.mark.django_db


class GoServer(Client):
    """Calls as the Go server does: JSON content type even on GET, no cookie, no token."""

    def embed(self, body: Any) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.post("/embed_text", data, content_type="application/json", headers={"Accept-Encoding": "gzip"})

    def ask(self, path: str) -> Any:
        return self.get(path, content_type="application/json")


@pytest.fixture
def go() -> GoServer:
    return GoServer(enforce_csrf_checks=True)


@pytest.fixture
def ready(muq_space: EmbeddingSpace) -> EmbeddingSpace:
    """The text model is loaded; the first load of a process may take longer than a view waits."""
    EmbedderClient().embed_text("ready", wait_seconds=120)
    return muq_space


def finite(reply: Any) -> Any:
    """The reply's JSON, which may hold no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(reply.content, parse_constant=refuse)


@pytest.mark.parametrize("model", [{}, {"model": None}, {"model": "muq"}])
def test_a_text_becomes_a_vector_of_muq_by_default(model: dict[str, Any], go: GoServer, ready: EmbeddingSpace) -> None:
    reply = go.embed({"text": "calm piano", **model})
    found = finite(reply)
    assert (reply.status_code, found["model"], found["dimension"], found["is_stub"]) == (200, "muq", 1_536, False)
    np.testing.assert_allclose(found["embedding"], text_vector("muq", "calm piano"), atol=1e-9)
    assert set(found) == {"embedding", "model", "dimension", "is_stub"}


def test_a_long_vector_keeps_its_direction_in_a_short_body(go: GoServer, ready: EmbeddingSpace, bridges: Path) -> None:
    space = live("mert", unit(1, 76_800))
    origin = Origin("mert", ready.fingerprint, space.fingerprint, 1, 1.0, 1.0, 1.0, 1)
    write_bridge(Bridge(origin, unit(512, 76_800), unit(1, 76_800)[0]))
    reply = go.embed({"text": "calm piano", "model": "mert"})
    assert (finite(reply)["dimension"], len(reply.content) < 1.3e6) == (76_800, True)
    assert np.float64(finite(reply)["embedding"]) @ text_vector("mert", "calm piano") == pytest.approx(1, abs=1e-6)


def test_a_text_is_answered_while_a_batch_runs(go: GoServer, ready: EmbeddingSpace, tmp_path: Path) -> None:
    from navembed_site.demo.encode import write_audio

    write_audio(tmp_path / "long.flac", tone(120), 44_100)
    chunk = [TrackRequest(str(n), str(tmp_path / "long.flac"), MODEL_KEYS, "") for n in range(10)]
    with closing(EmbedderClient().embed(chunk)) as events:
        next(event for event in events if isinstance(event, Step))
        assert go.embed({"text": "loud drums"}).status_code == 200
        assert EmbedderClient().status()["busy"]


BAD: dict[str, tuple[Any, str]] = {
    "a list": ([], "JSON object"),
    "a number": (7, "JSON object"),
    "null": (None, "JSON object"),
    "no text": ({}, "text must be a string"),
    "text is null": ({"text": None}, "text must be a string"),
    "text is a number": ({"text": 5}, "text must be a string"),
    "text is a list": ({"text": ["a"]}, "text must be a string"),
    "empty": ({"text": ""}, "empty"),
    "blank": ({"text": " \n "}, "empty"),
    "controls": ({"text": "\x00\x1b"}, "empty"),
    "unknown model": ({"text": "a", "model": "gpt"}, "must be one of muq, mert, latent"),
    "model is a number": ({"text": "a", "model": 5}, "must be one of"),
    "model is a list": ({"text": "a", "model": ["muq"]}, "must be one of"),
    "no bridge": ({"text": "a", "model": "latent"}, "`manage.py fit_text_bridge latent`"),
}


@pytest.mark.parametrize(("body", "told"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_embedded_is_a_422_with_a_sentence(body: Any, told: str, go: GoServer, bridges: Path) -> None:
    reply = go.embed(body)
    assert reply.status_code == 422
    assert told in reply.json()["error"]


@pytest.mark.usefixtures("nobody")
def test_without_an_embedder_it_is_a_503_with_a_sentence(go: GoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "WAIT_SECONDS", 0.2)
    reply = go.embed({"text": "calm piano"})
    assert (reply.status_code, "no embedder listens" in reply.json()["error"]) == (503, True)


def test_words_of_other_weights_than_the_live_spaces_are_a_422_that_says_what_to_run(
    go: GoServer, embedder: EmbedderProcess
) -> None:
    live("muq", unit(1, 1_536))
    reply = go.embed({"text": "calm piano"})
    assert (reply.status_code, "embed_library --models muq" in reply.json()["error"]) == (422, True)


# /models, /health


def test_models_say_which_of_them_texts_can_search(go: GoServer, ready: EmbeddingSpace, bridges: Path) -> None:
    models = {model["name"]: model for model in go.ask("/models").json()}
    assert set(models) == set(MODEL_KEYS)
    wanted = {"dimension": 1_536, "status": "available", "text": "native", "problem": None, "embedded": True}
    assert wanted.items() <= models["muq"].items()
    assert (models["mert"]["status"], models["mert"]["dimension"]) == ("unavailable", 76_800)
    assert "fit_text_bridge mert" in models["mert"]["problem"]


@pytest.mark.usefixtures("nobody")
def test_models_answer_while_the_embedder_is_away(go: GoServer) -> None:
    models = go.ask("/models").json()
    assert {model["status"] for model in models} == {"unavailable"}
    assert all({"name", "dimension", "status", "description"} <= model.keys() for model in models)


def test_health_names_the_device(go: GoServer, embedder: EmbedderProcess, settings: LazySettings) -> None:
    found = go.ask("/health").json()
    wanted = {"status": "healthy", "device": "cpu", "checkpoint_dir": str(settings.CHECKPOINT_DIR), "use_stubs": False}
    assert wanted.items() <= found.items()


@pytest.mark.django_db(transaction=True)
@pytest.mark.database
@pytest.mark.usefixtures("nobody")
def test_everything_may_be_away(go: GoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from embeddings.search import overview

    monkeypatch.setattr(overview, "DATABASE_SECONDS", 0.5)
    with database_away():
        assert go.ask("/health").json()["status"] == "healthy"
        models = go.ask("/models").json()
    assert [model["embedded"] for model in models] == [None] * len(MODEL_KEYS)
    assert models[1]["problem"] == "the database does not answer"


@pytest.mark.parametrize("path", ["/embed_text/", "/models/", "/health/"])
def test_no_path_redirects(path: str, go: GoServer) -> None:
    assert go.ask(path).status_code == 404


@pytest.mark.parametrize(("method", "path"), [("get", "/embed_text"), ("post", "/models"), ("post", "/health")])
def test_other_methods_are_refused(method: str, path: str, go: GoServer) -> None:
    assert getattr(go, method)(path, content_type="application/json").status_code == 405
