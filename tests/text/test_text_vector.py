"""Prompts as vectors of the live spaces, by the real embedder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from django.conf import LazySettings

from embeddings.embedder.client import EmbedderClient, socket_path
from embeddings.errors import EmbedderUnavailable, TextNotReady, TextUnavailable
from embeddings.models import EmbeddingSpace
from embeddings.search.bridge import Bridge, Origin, write_bridge
from embeddings.search.text import TextSupport, text_support, text_vector
from tests.index.conftest import unit
from tests.instances import EmbedderProcess
from tests.text.conftest import live

pytestmark = pytest.mark.django_db

WAIT = 120.0


@pytest.fixture
def mert(muq_space: EmbeddingSpace, bridges: Path) -> EmbeddingSpace:
    """A live space that a bridge leads to."""
    space = live("mert", unit(1, 20))
    origin = Origin("mert", muq_space.fingerprint, space.fingerprint, 1, 1.0, 1.0, 1.0, 1)
    write_bridge(Bridge(origin, unit(512, 20), unit(1, 20)[0]))
    return space


def test_a_prompt_is_text_and_zeros_in_the_space_of_music_and_words(muq_space: EmbeddingSpace) -> None:
    vector = text_vector("muq", " calm \n piano ", wait_seconds=WAIT)
    words = EmbedderClient().embed_text("calm piano", wait_seconds=WAIT)
    np.testing.assert_array_equal(vector, np.concatenate([words, np.zeros(1_024, np.float32)]))
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_a_bridge_carries_it_to_another_model(mert: EmbeddingSpace) -> None:
    vector = text_vector("mert", "calm piano", wait_seconds=WAIT)
    expected = text_vector("muq", "calm piano")[:512] @ unit(512, 20) + unit(1, 20)[0]
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)


def test_before_anything_is_embedded_a_prompt_has_its_vector(embedder: EmbedderProcess) -> None:
    assert text_vector("muq", "calm piano", wait_seconds=WAIT).any()


def test_words_of_other_weights_than_the_live_spaces_are_refused(embedder: EmbedderProcess) -> None:
    live("muq", unit(1, 1_536))
    with pytest.raises(TextUnavailable, match=r"other weights than .*; `manage\.py embed_library"):
        text_vector("muq", "calm piano", wait_seconds=WAIT)


def test_a_recent_prompt_needs_no_embedder(muq_space: EmbeddingSpace, request: pytest.FixtureRequest) -> None:
    before = text_vector("muq", "calm piano", wait_seconds=WAIT)
    request.getfixturevalue("nobody")
    np.testing.assert_array_equal(text_vector("muq", "calm  piano"), before)
    with pytest.raises(EmbedderUnavailable):
        text_vector("muq", "loud piano")


def test_a_recent_prompt_is_not_used_in_another_space(muq_space: EmbeddingSpace) -> None:
    text_vector("muq", "calm piano", wait_seconds=WAIT)
    EmbeddingSpace.objects.update(fingerprint="another", recipe={"weights": ["others"]})
    with pytest.raises(TextUnavailable):
        text_vector("muq", "calm piano", wait_seconds=WAIT)


def test_a_cold_model_is_not_waited_for_longer_than_asked(muq_space: EmbeddingSpace) -> None:
    EmbedderClient().unload("muq-text")
    with pytest.raises(TextNotReady):
        text_vector("muq", "calm piano", wait_seconds=0)
    assert text_vector("muq", "calm piano", wait_seconds=WAIT).any()


def test_the_next_embedder_answers_when_one_is_away(
    muq_space: EmbeddingSpace, settings: LazySettings, short_tmp: Path
) -> None:
    listening = socket_path()
    settings.EMBEDDER_SOCKET, settings.DEVICES = short_tmp / "embedder.sock", ("cpu", "cpu")
    socket_path(1).symlink_to(listening)
    assert text_vector("muq", "calm piano", wait_seconds=WAIT).any()


def test_an_embedder_that_is_being_started_is_waited_for(muq_space: EmbeddingSpace, embedder: EmbedderProcess) -> None:
    embedder.restart(wait=False)
    assert text_vector("muq", "calm piano", wait_seconds=WAIT, patient=True).any()


@pytest.mark.usefixtures("nobody")
def test_nobody_to_ask_is_an_error() -> None:
    with pytest.raises(EmbedderUnavailable, match="no embedder listens"):
        text_vector("muq", "calm piano")


@pytest.mark.parametrize(("model", "told"), [("mert", "fit_text_bridge mert"), ("gpt", "no model is named gpt")])
def test_a_model_that_cannot_be_searched_by_text_says_why(model: str, told: str, bridges: Path) -> None:
    with pytest.raises(TextUnavailable, match=told):
        text_vector(model, "calm piano")


def test_support_is_native_bridged_or_told(mert: EmbeddingSpace) -> None:
    support = text_support()
    assert (support["muq"], support["mert"]) == (TextSupport("native"), TextSupport("bridged", recall=1.0))
    assert support["latent"].kind is None
    assert "fit_text_bridge latent" in support["latent"].problem


def test_support_ends_with_the_embedder(mert: EmbeddingSpace, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("nobody")
    support = text_support()
    assert {support[model].kind for model in support} == {None}
    assert "no embedder listens" in support["mert"].problem
