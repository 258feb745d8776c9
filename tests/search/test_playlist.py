"""``POST /playlist/{mode}`` as the Go server sends it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from tests.search.conftest import Library

pytestmark = pytest.mark.django_db

WHOLE = {
    "user_id": "boss",
    "user_name": "Boss",
    "limit": 5,
    "mode": "recent",
    "diversity": 0.3,
    "seeds": [
        {"track_id": "t01", "weight": 3, "source": "recent", "played_at": "2025-01-31T12:00:00.123456789Z"},
        {"track_id": "t02", "played_at": "2025-01-31T12:00:00+02:00"},
        {"track_id": "t08", "played_at": "0001-01-01T00:00:00Z"},
    ],
    "exclude_track_ids": ["t04"],
    "disliked_track_ids": ["t05"],
    "disliked_artist_ids": ["a6"],
    "exclude_playlist_ids": ["p1"],
    "dislike_strength": 0.7,
    "models": ["muq", "mert"],
    "merge_strategy": "priority",
    "model_priorities": {"muq": 2, "mert": 1},
    "min_model_agreement": 2,
    "negative_embeddings": {"muq": [[1.0] * 12]},
    "negative_prompt_penalty": 0.5,
    "library_ids": [1, 2],
    "something_new": {"a": 1},
}


def ask(body: Any, mode: str = "custom") -> Any:
    text = body if isinstance(body, str) else json.dumps(body)
    return Client(enforce_csrf_checks=True).post(f"/playlist/{mode}", text, content_type="application/json")


def test_whole_request_is_answered(music: Library) -> None:
    reply = ask(WHOLE, "recent")
    assert reply.status_code == 200
    assert reply.json()["warnings"] == []
    tracks = reply.json()["tracks"]
    assert len(tracks) == 5
    assert not {each["track_id"] for each in tracks} & {"t01", "t02", "t08", "t04"}
    assert set(tracks[0]) == {"track_id", "score", "reason", "models", "negative_similarity"}
    assert tracks[0]["models"] == ["muq", "mert"]
    assert 0 <= tracks[0]["negative_similarity"] <= 1


def test_any_name_of_a_mode_is_answered_and_nulls_are_defaults(music: Library) -> None:
    nulls = dict.fromkeys(WHOLE) | {"seeds": [{"track_id": "t01", "weight": None, "embedding": None}]}
    reply = ask(nulls, "näht-and day")
    assert len(reply.json()["tracks"]) == 25
    assert reply.json() == ask({"seeds": [{"track_id": "t01"}]}).json()


def test_text_seed_of_the_go_server(music: Library) -> None:
    vector = [*music.world.spaces["muq"].vectors["t07"][:4], *[0.0] * 8]
    seeds = [{"track_id": "_text_query_", "source": "text", "embedding": vector, "weight": 1}]
    first = ask({"seeds": seeds, "mode": "text"}, "text").json()["tracks"][0]
    assert (first["track_id"], first["reason"]) == ("t07", "sounds like what you described (MuQ)")


@pytest.mark.parametrize("body", [{}, {"seeds": None}, {"seeds": [{"track_id": "nobody"}]}])
def test_no_usable_seed_is_an_empty_list_with_a_warning(music: Library, body: Any) -> None:
    reply = ask(body)
    assert reply.status_code == 200
    assert reply.json()["tracks"] == []
    assert reply.json()["warnings"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"models": ["muq", "clap"]}, "models"),
        ({"merge_strategy": "average"}, "merge_strategy"),
        ({"limit": 0}, "limit"),
        ({"limit": 501}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"diversity": 1.1}, "diversity"),
        ({"dislike_strength": 0.2}, "dislike_strength"),
        ({"negative_prompt_penalty": 2}, "negative_prompt_penalty"),
        ({"min_model_agreement": 0}, "min_model_agreement"),
        ({"model_priorities": {"clap": 1}}, "model_priorities"),
        ({"negative_embeddings": {"clap": [[1]]}}, "negative_embeddings"),
        ({"negative_embeddings": {"muq": [["1"]]}}, "negative_embeddings"),
        ({"seeds": "t01"}, "seeds"),
        ({"seeds": ["t01"]}, "seeds"),
        ({"seeds": [{"track_id": ["t01"]}]}, "track_id"),
        ({"seeds": [{"weight": -1}]}, "weight"),
        ({"seeds": [{"played_at": "yesterday"}]}, "played_at"),
        ({"seeds": [{"played_at": 5}]}, "played_at"),
        ({"seeds": [{"embedding": []}]}, "embedding"),
        ({"seeds": [{"embedding": [[1.0]]}]}, "embedding"),
        ({"seeds": [{"embedding": [True]}]}, "embedding"),
        ({"seeds": [{"embedding": [10**400]}]}, "embedding"),
        ({"exclude_track_ids": ["\x00"]}, "exclude_track_ids"),
        ({"library_ids": [10**30]}, "library_ids"),
        ([], "dictionary"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(db: None, body: Any, named: str) -> None:
    reply = ask(body)
    assert reply.status_code == 422
    assert named in reply.json()["error"]


@pytest.mark.parametrize(
    "text",
    [
        '{"seeds": [{"embedding": [1e400]}]}',
        '{"exclude_track_ids": ["\\ud800"]}',
        '{"limit": NaN}',
        '{"diversity": Infinity}',
        "{",
        "nul",
    ],
)
def test_what_is_no_json_is_refused(db: None, text: str) -> None:
    reply = ask(text)
    assert reply.status_code in (400, 422)
    assert reply.json()["error"]


def test_excluded_ids_have_no_limit_of_their_own(music: Library) -> None:
    excluded = [f"{n:022x}" for n in range(50_000)]
    reply = ask({"seeds": [{"track_id": "t01"}], "exclude_track_ids": [*excluded, "t02"]})
    assert reply.status_code == 200
    assert len(reply.json()["tracks"]) == 25
    assert reply.json()["warnings"] == []


def test_vector_as_long_as_mert_s_is_taken(music: Library) -> None:
    reply = ask({"seeds": [{"track_id": "t01"}, {"embedding": [0.001234567890123] * 76_800}]})
    assert reply.status_code == 200
    assert reply.json()["tracks"]
