"""POST /playlist/{mode}, over a library of which the short tracks are embedded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from embeddings.search.seeds import DIGITS
from tests.contract.client import GoClient, Reply, is_number
from tests.contract.conftest import EVERYWHERE, LONG, SHORT, Server
from tests.contract.test_health import DIMENSIONS

IDS = {f"track{number}" for number in range(SHORT)}
ALL = IDS | {f"long{number:02}" for number in range(LONG)}
"""With those that jobs of other tests may have embedded."""
SEEDS = [{"track_id": "track0", "weight": 1.0, "source": "recent", "played_at": "2025-06-01T20:15:30.123456789+02:00"}]


def ids(reply: Reply) -> list[str]:
    assert (reply.status, reply.is_json) == (200, True), reply
    return [track["track_id"] for track in reply.json["tracks"]]


def vector(model: str, seed: int = 1) -> list[float]:
    return [((seed * number) % 17 - 8.5) / 10 for number in range(1, DIMENSIONS[model] + 1)]


# The reply


@pytest.mark.parametrize(
    "mode", ["recent", "favorites", "all", "discovery", "custom", "playlists", "any name", "x" * 99]
)
def test_any_mode_is_answered_with_the_contracts_fields(client: GoClient, mode: str) -> None:
    reply = client.post(f"/playlist/{mode.replace(' ', '%20')}", body(mode=mode, models=list(DIMENSIONS)))
    assert set(reply.json) == {"tracks", "warnings"}
    assert all(isinstance(warning, str) for warning in reply.json["warnings"])
    assert reply.json["tracks"]
    for track in reply.json["tracks"]:
        assert isinstance(track["track_id"], str)
        assert is_number(track["score"])
        assert track["reason"] is None or isinstance(track["reason"], str)
        assert track["models"] is None or set(track["models"]) <= DIMENSIONS.keys()
        assert track["negative_similarity"] is None or is_number(track["negative_similarity"])


def body(**fields: Any) -> dict[str, Any]:
    """With what the Go server always sends."""
    always = {"user_id": "u", "user_name": "admin", "limit": 5, "mode": "custom", "seeds": SEEDS, "diversity": 0.0}
    return always | fields


@EVERYWHERE
def test_best_is_first_and_neither_seeds_nor_strangers_are_among_them(client: GoClient) -> None:
    reply = client.playlist(seeds=SEEDS, limit=500)
    assert IDS - {"track0"} <= set(ids(reply)) <= ALL - {"track0"}
    scores = [round(track["score"], DIGITS) for track in reply.json["tracks"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("limit", [1, 3, 500])
def test_never_longer_than_the_limit(client: GoClient, limit: int) -> None:
    assert min(limit, SHORT - 1) <= len(ids(client.playlist(seeds=SEEDS, limit=limit))) <= limit


@EVERYWHERE
def test_equal_requests_get_equal_replies(client: GoClient) -> None:
    request = body(models=list(DIMENSIONS), diversity=0.5)
    assert client.post("/playlist/all", request).json == client.post("/playlist/all", request).json


# What is left out


@pytest.mark.parametrize("excluded", [["track1"], ["track1", "track2", "never"], sorted(ALL)])
def test_excluded_tracks_never_appear(client: GoClient, excluded: list[str]) -> None:
    found = set(ids(client.playlist(seeds=SEEDS, limit=500, exclude_track_ids=excluded)))
    assert IDS - {"track0", *excluded} <= found <= ALL - {"track0", *excluded}


def test_tracks_that_navidrome_lost_never_appear(server: Server) -> None:
    server.music.change("track3", missing=1)
    try:
        assert "track3" not in ids(server.go.playlist(seeds=SEEDS, limit=500))
    finally:
        server.music.change("track3", missing=0)


@pytest.mark.parametrize(("libraries", "any_found"), [(["1"], True), ([1, 7], True), (["7"], False)])
def test_libraries_restrict(client: GoClient, libraries: list[Any], any_found: bool) -> None:
    assert bool(ids(client.playlist(seeds=SEEDS, limit=500, library_ids=libraries))) == any_found


# Seeds


@pytest.mark.parametrize(
    "seeds",
    [
        [{"track_id": "track0"}],
        [{"track_id": "track0", "weight": 2.5}],
        [{"track_id": "track0", "weight": 0.1, "source": "favorites"}],
        [{"track_id": "track0", "played_at": "2025-06-01T20:15:30Z"}],
        [{"track_id": "track0", "played_at": None, "weight": None, "source": None, "embedding": None}],
        [{"track_id": "track0", "more": {"odd": 1}}],
        [{"track_id": "track0"}, {"track_id": "track0"}, {"track_id": "never"}],
        [{"track_id": "_text_query_", "source": "text", "embedding": vector("muq")}],
    ],
    ids=lambda seeds: str(seeds)[:60],
)
def test_seeds_of_every_form_are_understood(client: GoClient, seeds: list[Any]) -> None:
    assert ids(client.playlist(seeds=seeds))


@pytest.mark.parametrize("model", DIMENSIONS)
@EVERYWHERE
def test_embedding_of_every_model_is_a_seed(client: GoClient, model: str) -> None:
    seed = {"track_id": "_text_query_", "weight": 1.0, "source": "text", "embedding": vector(model)}
    assert ids(client.playlist("text", seeds=[seed], models=[model]))


@pytest.mark.parametrize("seeds", [[], [None], [{}], [{"track_id": "never"}], [{"track_id": "damaged"}]], ids=str)
def test_no_usable_seed_is_an_empty_list_with_a_warning(client: GoClient, seeds: list[Any]) -> None:
    reply = client.playlist(seeds=seeds)
    assert ids(reply) == []
    assert reply.json["warnings"]


# Everything that may be sent


@pytest.mark.parametrize(
    "fields",
    [
        {"models": ["muq", "mert", "latent"], "merge_strategy": "union"},
        {"models": ["muq", "mert"], "merge_strategy": "intersection", "min_model_agreement": 2},
        {"models": ["mert", "latent"], "merge_strategy": "priority", "model_priorities": {"latent": 1, "mert": 2}},
        {"disliked_track_ids": ["track5"], "disliked_artist_ids": ["a1"], "dislike_strength": 0.3},
        {"exclude_playlist_ids": ["p1", "never"]},
        {"negative_prompts": ["loud drums"], "negative_prompt_penalty": 0.3},
        {"negative_embeddings": {"muq": [vector("muq", 3)], "mert": [vector("mert", 3)]}},
        {"negative_embeddings": {}, "models": [], "exclude_track_ids": [], "library_ids": [], "model_priorities": {}},
        {"models": None, "merge_strategy": None, "negative_prompts": None, "min_model_agreement": None},
        {"diversity": 1, "limit": 500, "more": ["odd"]},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_whatever_the_go_server_sends_is_answered(client: GoClient, fields: dict[str, Any]) -> None:
    reply = client.post("/playlist/all", body(**fields))
    assert ids(reply), reply
    assert "track0" not in ids(reply)


@EVERYWHERE
def test_negative_embeddings_are_reported(client: GoClient) -> None:
    reply = client.playlist(seeds=SEEDS, negative_embeddings={"muq": [vector("muq", 3)]})
    assert all(is_number(track["negative_similarity"]) for track in reply.json["tracks"])


@pytest.mark.parametrize(
    "fields",
    [
        {"models": ["vggish"]}, {"models": "muq"}, {"models": [3]}, {"merge_strategy": "average"},
        {"merge_strategy": 3}, {"limit": 0}, {"limit": 501}, {"limit": -1}, {"limit": "many"}, {"limit": [5]},
        {"diversity": -0.1}, {"diversity": 1.1}, {"diversity": "high"}, {"dislike_strength": 0.2},
        {"dislike_strength": 1.1}, {"negative_prompt_penalty": 0.2}, {"negative_prompt_penalty": 1.1},
        {"min_model_agreement": 0}, {"model_priorities": {"muq": "first"}}, {"model_priorities": {"vggish": 1}},
        {"model_priorities": [1]}, {"seeds": {}}, {"seeds": "track0"}, {"seeds": [3]},
        {"seeds": [{"track_id": [3]}]}, {"seeds": [{"track_id": "a", "weight": "heavy"}]},
        {"seeds": [{"track_id": "a", "played_at": "yesterday"}]}, {"seeds": [{"track_id": "a", "embedding": "x"}]},
        {"seeds": [{"track_id": "a", "embedding": [None]}]}, {"negative_prompts": "loud"}, {"negative_prompts": [[]]},
        {"negative_embeddings": {"vggish": [[1.0]]}}, {"negative_embeddings": {"muq": [["x"]]}},
        {"negative_embeddings": []}, {"exclude_track_ids": "track1"}, {"exclude_track_ids": [[]]},
        {"library_ids": {"1": 1}},
    ],
    ids=lambda fields: str(fields)[:60],
)  # fmt: skip
def test_odd_request_is_refused_with_a_sentence(client: GoClient, fields: dict[str, Any]) -> None:
    reply = client.post("/playlist/custom", body(**fields))
    assert (reply.status, reply.is_json) == (422, True), reply
    assert isinstance(reply.json["error"], str)


@pytest.mark.parametrize("sent", [[], "x", 3, True], ids=str)
def test_body_that_is_no_object_is_refused(client: GoClient, sent: Any) -> None:
    assert client.post("/playlist/custom", sent).status == 422


def test_a_body_as_large_as_a_mert_vector_makes_it(client: GoClient) -> None:
    large = [(number + 0.1) / 76_800 for number in range(76_800)]
    seed = {"track_id": "_text_query_", "source": "text", "embedding": large}
    request = body(seeds=[seed, *SEEDS], models=["mert"], negative_embeddings={"mert": [vector("mert", 5)]})
    assert len(json.dumps(request)) > 1.4e6
    assert ids(client.post("/playlist/text", request))


def test_milvus_away_is_no_failure(idle: Server) -> None:
    """The client waits for five seconds; what cannot be found is told by a warning."""
    with idle.frozen("milvus_lite"):
        reply = idle.go.playlist(seeds=SEEDS)
        assert ids(reply) == []
        assert reply.json["warnings"]
