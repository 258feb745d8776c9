"""What a recommendation may hold, what it tells, and what it does without."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from embeddings.errors import EmbedderUnavailable, TextNotReady, TextUnavailable
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.search import prompts, retrieval
from embeddings.search.neighbours import nearest_to_track
from embeddings.search.recommend import Answer, Query, Seed, recommend
from embeddings.spaces.lifecycle import make_live
from tests.milvus import LiteServer
from tests.search.conftest import Library, clustered, library_of, row

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def ids(answer: Answer) -> list[str]:
    return [each.track_id for each in answer.tracks]


def of(*seeds: str, **options: Any) -> Answer:
    return recommend(Query(seeds=[Seed(seed) for seed in seeds], **options), now=NOW)


# Seeds


@pytest.mark.database
def test_one_seed_gets_its_neighbours(music: Library) -> None:
    answer = of("t01", limit=8)
    assert ids(answer) == [each.track_id for each in nearest_to_track("muq", "t01", 8)]
    assert answer.warnings == []


def test_each_model_uses_its_own_vectors(music: Library) -> None:
    for model in ("mert", "latent"):
        assert ids(of("t01", models=[model], limit=5)) == [e.track_id for e in nearest_to_track(model, "t01", 5)]


def test_embedding_counts_for_the_model_that_it_fits(music: Library) -> None:
    seed = Seed("upload", embedding=np.array(music.world.spaces["mert"].vectors["t01"]))
    answer = recommend(Query(seeds=[seed], models=["muq", "mert"]), now=NOW)
    assert answer.tracks[0].track_id == "t01"
    assert {each.models for each in answer.tracks} == {("mert",)}


def test_plays_of_long_ago_count_less(music: Library) -> None:
    old, new = (Seed(i, played_at=NOW - timedelta(days=days)) for i, days in (("t00", 300), ("t09", 1)))
    many = [Seed(f"t{n:02}", 1e-9) for n in range(10, 16)]  # with them the two share a group
    first = recommend(Query(seeds=[old, new, *many], limit=30), now=NOW)
    assert first == recommend(Query(seeds=[*many, new, old], limit=30), now=NOW + timedelta(minutes=1))
    assert first != recommend(Query(seeds=[Seed("t00"), new, *many], limit=30), now=NOW)


def test_unknown_seeds_are_told(music: Library) -> None:
    answer = of("t01", "nobody", "")
    assert answer.tracks
    assert answer.warnings == ["MuQ does not know 2 of the tracks to start from."]


@pytest.mark.parametrize("seeds", [[], ["nobody"]])
def test_no_usable_seed_gives_an_empty_list_and_says_why(music: Library, seeds: list[str]) -> None:
    answer = of(*seeds)
    assert answer.tracks == []
    assert "nothing to start from" in answer.warnings[-1]


def test_reason_names_the_likest_seed_and_the_models(music: Library) -> None:
    Track.objects.filter(pk="t10").update(artist="Reed & Heron", title="Low Water")
    first = of("t10", models=["muq", "latent"]).tracks[0]
    assert (first.track_id, first.reason) == (
        "t11",
        "sounds like Reed & Heron - Low Water (MuQ, Music2Latent agree)",
    )


# What may be shown


def test_track_that_navidrome_lost_a_moment_ago_does_not_come(music: Library) -> None:
    best = ids(of("t01"))[:2]
    with closing(sqlite3.connect(music.navidrome)) as connection:
        connection.execute("DELETE FROM media_file WHERE id = ?", best[:1])
        connection.execute("UPDATE media_file SET missing = 1 WHERE id = ?", best[1:])
        connection.commit()
    assert not set(best) & set(ids(of("t01")))


def test_build_beside_is_not_visible(music: Library) -> None:
    before = of("t01")
    vectors = dict(zip([f"t{n:02}" for n in range(30)], clustered(30, 12, 77), strict=True))
    build = music.embed("muq", vectors, "building")
    assert of("t01") == before
    make_live([build])
    assert of("t01") != before


@pytest.mark.database
def test_embedding_that_is_being_deleted_is_no_seed_and_no_result(music: Library) -> None:
    Embedding.objects.filter(track_id="t01").update(index_state="deleting")
    assert of("t01").tracks == []
    assert "t01" not in ids(of("t02"))


@pytest.mark.parametrize("looked_through", [1_000, 3])
def test_many_exclusions_leave_what_few_would(
    music: Library, monkeypatch: pytest.MonkeyPatch, looked_through: int
) -> None:
    """Taken out of the hits, or where too little is left of these, by Milvus."""
    monkeypatch.setattr(retrieval, "MOST_LOOKED_THROUGH", looked_through)
    monkeypatch.setattr(retrieval, "MOST_NAMED", 10)
    excluded = ids(of("t01", limit=20))
    expected = ids(of("t01", limit=30, exclude_track_ids=excluded))
    strangers = [f"x{n}" for n in range(5_000)]
    assert ids(of("t01", limit=30, exclude_track_ids=[*strangers, *excluded])) == expected != []


def test_unknown_user_sees_what_everybody_may_see(music: Library) -> None:
    assert {library_of(i) for i in ids(of("t01", limit=30, user_id="stranger"))} == {1}
    assert {library_of(i) for i in ids(of("t01", limit=30, user_id="boss"))} == {1, 2}


def test_library_that_the_user_may_not_see_cannot_be_asked_for(music: Library) -> None:
    answer = of("t01", user_id="ann", library_ids=[2])
    assert (answer.tracks, answer.warnings) == ([], ["There is nothing for you in library 2."])


def test_library_that_nobody_has_is_told(music: Library) -> None:
    answer = of("t01", library_ids=[1, 77])
    assert answer.tracks
    assert answer.warnings == ["There is nothing for you in library 77."]


def test_reason_names_no_track_that_the_user_may_not_see(music: Library) -> None:
    seed = next(i for i in music.world.tracks if library_of(i) == 2)
    assert {each.reason for each in of(seed, user_id="ann").tracks} == {"sounds like what you chose (MuQ)"}
    assert {each.reason for each in of(seed, user_id="bob").tracks} == {
        f"sounds like {Track.objects.get(pk=seed)} (MuQ)"
    }


def test_tracks_that_are_gone_leave_their_places_to_others(library: Library) -> None:
    names = [f"t{n:03}" for n in range(270)]
    library.embed("muq", dict(zip(names, clustered(270, 12, 5), strict=True)))
    library.tell({i: row(n, title=i, missing=bool(n % 9 > 4)) for n, i in enumerate(names)})
    assert len(of("t000", limit=500).tracks) == 149


# Away


@pytest.mark.database
def test_navidrome_away_falls_back_to_the_last_scan(music: Library, settings: Any) -> None:
    expected = ids(of("t01"))
    Track.objects.filter(pk=expected[0]).update(playable=False)
    settings.NAVIDROME_DB_PATH = music.navidrome.with_name("gone.db")
    answer = of("t01", limit=24)
    assert ids(answer) == expected[1:]
    assert answer.warnings == ["Some tracks may have gone since the last scan, and disliked artists do not count now."]


@pytest.mark.database
def test_navidrome_away_shows_nobody_what_he_might_not_see(music: Library, settings: Any) -> None:
    settings.NAVIDROME_DB_PATH = music.navidrome.with_name("gone.db")
    answer = of("t01", user_id="ann")
    assert answer.tracks == []
    assert "Which libraries you may see is not known" in answer.warnings[0]


def test_model_without_vectors_leaves_the_others(music: Library) -> None:
    expected = of("t01")
    EmbeddingSpace.objects.filter(model="mert").delete()
    answer = of("t01", models=["muq", "mert"], merge="intersection")
    assert ids(answer) == ids(expected)
    assert answer.warnings == ["MERT does not know any track yet."]


def test_lost_collection_leaves_the_other_models(music: Library) -> None:
    from embeddings.index.store import VectorStore

    VectorStore().drop(EmbeddingSpace.objects.get(model="muq").collection)
    answer = of("t01", models=["muq", "mert"])
    assert {each.models for each in answer.tracks} == {("mert",)}
    assert "MuQ is left out" in answer.warnings[0]


@pytest.fixture
def frozen(music: Library, milvus: LiteServer) -> Iterator[None]:
    of("t01")  # connected
    milvus.send(signal.SIGSTOP)
    yield
    milvus.send(signal.SIGCONT)


def test_frozen_milvus_is_answered_in_time(frozen: None) -> None:
    began = time.monotonic()
    answer = recommend(Query(seeds=[Seed("t01")], models=["muq", "mert", "latent"]), seconds=2)
    assert time.monotonic() - began < 4  # the client gives up after five
    assert answer.tracks == []
    assert sum("is left out" in warning for warning in answer.warnings) == 3


def test_milvus_that_is_down_is_told_at_once(music: Library, milvus: LiteServer) -> None:
    milvus.end()
    answer = of("t01")
    assert answer.tracks == []
    assert answer.warnings == ["MuQ is left out: it does not answer in time. Try again later."]


# Likeness and dislikes


def test_list_without_diversity_is_ordered_by_score(music: Library) -> None:
    scores = [each.score for each in of("t01", "t05", "t20", models=["muq", "mert"]).tracks]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_diversity_limits_the_tracks_of_an_artist(music: Library) -> None:
    music.tell({i: row(n, artist="One", artist_id="one") for n, i in enumerate(music.world.tracks)})
    assert len(of("t01", limit=25, diversity=0.6).tracks) == 4
    assert len(of("t01", limit=25, diversity=1.0).tracks) == 1


def test_guest_who_is_disliked_is_left_out(music: Library) -> None:
    first = ids(of("t01"))[0]
    music.tell({i: row(n, participants={"guest"} if i == first else {"x"}) for n, i in enumerate(music.world.tracks)})
    assert first not in ids(of("t01", disliked_artist_ids=["guest"]))
    assert ids(of("t01", limit=30, disliked_artist_ids=["guest"], dislike_strength=0.9))[0] != first


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_disliked_artist_goes_down_at_every_diversity(music: Library, diversity: float) -> None:
    music.tell({i: row(n, artist_id=i, participants={i}) for n, i in enumerate(music.world.tracks)})
    before = ids(of("t01", limit=30, diversity=diversity))
    disliked = before[:5]
    after = ids(of("t01", limit=30, diversity=diversity, disliked_artist_ids=disliked, dislike_strength=0.5))
    places = [after.index(each) for each in disliked]
    assert sorted(after) == sorted(before)
    assert all(place > before.index(each) for each, place in zip(disliked, places, strict=True))


def test_neighbours_of_a_disliked_track_go_down(music: Library) -> None:
    scores = {each.track_id: each.score for each in of("t01", limit=30).tracks}
    after = {each.track_id: each.score for each in of("t01", limit=30, disliked_track_ids=["t02"]).tracks}
    assert "t02" not in after
    assert after["t03"] < scores["t03"]  # a copy of it


# Words


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands where the embedder would: "first" is the mean part of t04."""

    def text_vector(model: str, prompt: str, *, wait_seconds: float) -> Any:
        if model != "muq":
            raise TextUnavailable(f"{model} cannot be searched by text yet")
        if prompt == "cold":
            raise TextNotReady("the text model is loading")
        space = EmbeddingSpace.objects.get(model="muq")
        mean = np.frombuffer(space.embeddings.get(track_id="t04").vector, "<f4")[: space.dimension // 3]
        return np.concatenate([mean / np.linalg.norm(mean), np.zeros(8)]).astype(np.float32)

    monkeypatch.setattr(prompts, "text_vector", text_vector)


@pytest.mark.database
def test_text_finds_what_has_its_mean_part(music: Library, words: None) -> None:
    answer = recommend(Query(texts=["first"], models=["muq", "mert"]), now=NOW)
    assert (answer.tracks[0].track_id, answer.tracks[0].reason) == ("t04", "sounds like “first” (MuQ)")
    assert answer.warnings == ["MERT cannot search by words yet."]


def test_negative_prompt_pushes_down_and_is_reported(music: Library, words: None) -> None:
    before = {each.track_id: each for each in of("t01", limit=30).tracks}
    after = {each.track_id: each for each in of("t01", limit=30, negative_prompts=["first"]).tracks}
    assert after["t04"].negative_similarity == max(each.negative_similarity or 0 for each in after.values())
    expected = before["t04"].score * (1 - 0.15 * (after["t04"].negative_similarity or 0))
    assert after["t04"].score == pytest.approx(expected)
    assert before["t04"].negative_similarity is None


def test_lowest_penalty_is_the_strongest_and_one_is_none(music: Library, words: None) -> None:
    whole = {each.track_id: each.score for each in of("t01", limit=30).tracks}["t04"]
    left = [
        {
            each.track_id: each.score
            for each in of("t01", limit=30, negative_prompts=["first"], negative_penalty=p).tracks
        }
        for p in (0.3, 0.85, 1.0)
    ]
    assert left[0]["t04"] < left[1]["t04"] < left[2]["t04"] == whole


def test_cold_text_model_costs_the_prompt_and_not_the_answer(music: Library, words: None) -> None:
    answer = of("t01", negative_prompts=["cold", "first"])
    assert ids(answer) == ids(of("t01"))
    assert answer.warnings == ["The answer does without texts: they are being prepared. Try again in a minute."]


def test_ten_thousand_negative_prompts_cost_no_more_than_a_few(
    music: Library, words: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    original = prompts.text_vector
    monkeypatch.setattr(prompts, "text_vector", lambda *given, **how: read.append(given) or original(*given, **how))
    answer = of("t01", negative_prompts=[f"first {n}" for n in range(10_000)])
    assert len(answer.tracks) == 25
    assert len(read) == prompts.MOST_PROMPTS
    assert answer.warnings == ["Only the first 20 texts count."]


def test_prompts_stop_in_time(music: Library, words: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "LAST_MOMENT", 99.0)
    answer = of("t01", negative_prompts=["first"])
    assert ids(answer) == ids(of("t01"))
    assert answer.warnings == ["Some texts do not count: there was no time to read them all."]


def test_embedder_away_costs_the_prompt_and_not_the_answer(music: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise EmbedderUnavailable("no embedder listens at e.sock: [Errno 2] No such file")

    monkeypatch.setattr(prompts, "text_vector", away)
    answer = of("t01", negative_prompts=["x"])
    assert ids(answer) == ids(of("t01"))
    assert answer.warnings == ["The answer does without texts: they cannot be read now. Try again in a minute."]
