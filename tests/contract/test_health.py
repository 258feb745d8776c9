"""GET /healthz, /health and /models."""

from __future__ import annotations

from tests.contract.client import GoClient
from tests.contract.conftest import EVERYWHERE

DIMENSIONS = {"muq": 1536, "mert": 1200, "latent": 576}
"""Those of the tests' tiny models; the published MERT gives 76,800 numbers."""


@EVERYWHERE
def test_healthz_says_ok(client: GoClient) -> None:
    reply = client.get("/healthz")
    assert (reply.status, reply.json["status"]) == (200, "ok")


@EVERYWHERE
def test_health_has_the_fields_of_the_old_text_service(client: GoClient) -> None:
    reply = client.get("/health")
    found = reply.json
    assert (reply.status, found["status"], found["use_stubs"]) == (200, "healthy", False)
    assert isinstance(found["device"], str)
    assert isinstance(found["checkpoint_dir"], str)


@EVERYWHERE
def test_models_is_a_list_of_all_three_with_their_dimensions(client: GoClient) -> None:
    reply = client.get("/models")
    assert reply.status == 200
    assert {model["name"]: model["dimension"] for model in reply.json} == DIMENSIONS
    for model in reply.json:
        assert model["status"] in ("available", "stub", "unavailable")
        assert isinstance(model["description"], str)


def test_only_muq_understands_texts_by_itself(client: GoClient) -> None:
    found = {model["name"]: model["status"] for model in client.get("/models").json}
    assert found == {"muq": "available", "mert": "unavailable", "latent": "unavailable"}
