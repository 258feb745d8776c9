"""POST /embed_text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.contract.client import GoClient, is_number
from tests.contract.conftest import EVERYWHERE
from tests.contract.test_health import DIMENSIONS

WIDTH = 512
"""Of the joint space of text and audio, with which a MuQ embedding begins."""


def embed(client: GoClient, text: str, **fields: Any) -> Any:
    reply = client.post("/embed_text", {"text": text} | fields)
    assert reply.status == 200, reply
    return reply.json


@EVERYWHERE
def test_reply_has_the_contracts_fields(client: GoClient) -> None:
    found = embed(client, "slow piano", model="muq")
    assert (found["model"], found["dimension"], found["is_stub"]) == ("muq", DIMENSIONS["muq"], False)
    assert len(found["embedding"]) == found["dimension"]
    assert all(is_number(number) for number in found["embedding"])


def test_vector_is_the_text_and_two_empty_parts_of_unit_length(client: GoClient) -> None:
    vector = np.array(embed(client, "slow piano")["embedding"])
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert not vector[WIDTH:].any()


@pytest.mark.parametrize("fields", [{}, {"model": None}, {"model": "muq", "more": {"odd": [1]}}], ids=str)
def test_model_is_muq_unless_another_is_named(client: GoClient, fields: dict[str, Any]) -> None:
    assert embed(client, "slow piano", **fields) == embed(client, "slow piano", model="muq")


@EVERYWHERE
def test_same_text_gives_the_same_vector_and_another_another(client: GoClient) -> None:
    first, again, other = (embed(client, text)["embedding"] for text in ("slow piano", "slow piano", "loud drums"))
    assert first == again != other


@pytest.mark.parametrize("model", ["mert", "latent"])
def test_model_without_a_bridge_says_what_to_run(client: GoClient, model: str) -> None:
    reply = client.post("/embed_text", {"text": "slow piano", "model": model})
    assert (reply.status, reply.is_json) == (422, True)
    assert f"fit_text_bridge {model}" in reply.json["error"]


@pytest.mark.parametrize(
    "text", ["a", "Тихий берег", "はじまりの町", "🥁" * 50, "x" * 10**6, "a\x00b", "  a\tb\n"], ids=ascii
)
def test_any_language_and_length_is_understood(client: GoClient, text: str) -> None:
    assert embed(client, text)["dimension"] == DIMENSIONS["muq"]


@pytest.mark.parametrize(
    "body",
    [
        {}, {"model": "muq"}, {"text": None}, {"text": ""}, {"text": "  \n"}, {"text": "\x00\x07"}, {"text": 3},
        {"text": ["slow"]}, {"text": {"a": 1}}, {"text": True}, {"text": "a", "model": "vggish"},
        {"text": "a", "model": 3}, {"text": "a", "model": ["muq"]}, {"text": "a", "model": ""}, [], "a", 3, None,
    ],
    ids=ascii,
)  # fmt: skip
def test_odd_request_is_refused_with_a_sentence(client: GoClient, body: Any) -> None:
    reply = client.post("/embed_text", body)
    assert (reply.status, reply.is_json) == (422, True), reply
    assert isinstance(reply.json["error"], str)
