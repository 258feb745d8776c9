"""Paths between two tracks: straight, ever closer to the end, each recording once, no artist twice in a row."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embeddings.models import EmbeddingSpace, Track
from embeddings.search.path import _from_points, off_line, straightest
from tests.search.conftest import Library, row
from tests.stock.conftest import Ask

URL = "/api/v1/path"


def manifold(kind: str, count: int, seed: int) -> NDArray[np.float64]:
    """Unit vectors along a curve, on a surface or in clusters, in 16 dimensions; the ends lie far apart."""
    random = np.random.default_rng(seed)
    along = np.sort(random.random(count))
    along[0], along[-1] = 0, 1
    turn = {"arc": 1.5, "surface": 1.5, "clusters": 2.5}[kind] * along
    width = {"arc": 0.02, "surface": 0.3, "clusters": 0.15}[kind]
    if kind == "clusters":
        turn[1:-1] = np.round(turn[1:-1], 1)
    points = np.stack([np.cos(turn), np.sin(turn)], axis=1) @ np.linalg.qr(random.normal(size=(16, 2)))[0].T
    points += width / 4 * random.normal(size=points.shape)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def ways(kind: str, count: int, seed: int, most: int, artists: int) -> tuple[list[int], NDArray[np.float64], list[str]]:
    points = manifold(kind, count, seed)
    start, end, others = points[0], points[-1], points[1:-1]
    found = np.stack([others @ start, others @ end], axis=1)
    names = [f"a{number}" for number in np.random.default_rng(seed).integers(artists, size=len(others))]
    return straightest(found, float(start @ end), names, ["start", "end"], most), found, names


@pytest.mark.parametrize("kind", ["arc", "surface", "clusters"])
@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 120), seed=st.integers(0, 999), most=st.integers(0, 12), artists=st.integers(1, 5))
def test_every_step_is_closer_to_the_end(kind: str, count: int, seed: int, most: int, artists: int) -> None:
    way, found, _ = ways(kind, count, seed, most, artists)
    assert len(way) <= most
    assert all(found[one, 1] < found[other, 1] for one, other in pairwise(way))


def test_way_lies_along_the_line_at_even_distances() -> None:
    way, found, _ = ways("arc", 200, 1, 8, 100)
    assert len(way) == 8
    assert np.ptp(np.diff(np.arccos(found[way, 1]))) < 0.1
    points = manifold("surface", 200, 2)
    found = np.stack([points[1:-1] @ points[0], points[1:-1] @ points[-1]], axis=1)
    between = float(points[0] @ points[-1])
    way = straightest(found, between, [""] * 198, ["", ""], 8)
    assert off_line(found[way], between).mean() < off_line(found, between).mean()


def test_no_artist_twice_in_a_row_while_others_are_there() -> None:
    way, _, names = ways("arc", 120, 3, 10, 2)
    assert all(names[one] != names[other] for one, other in pairwise(way))
    way, _, _ = ways("arc", 120, 3, 10, 1)
    assert len(way) == 10


def test_a_shorter_way_is_better_than_an_artist_twice_in_a_row_unless_less_than_half_is_left() -> None:
    found = np.array([[0.9, 0.2], [0.8, 0.3], [0.7, 0.4], [0.6, 0.5]])
    ends = ["x", "y"]
    assert straightest(found, 0.1, ["a", "a", "b", "a"], ends, 4) in ([0, 2, 3], [1, 2, 3])
    assert straightest(found, 0.1, ["a", "a", "a", "b"], ends, 4) in ([0, 3], [1, 3], [2, 3])
    assert straightest(found, 0.1, ["a", "a", "a", "a"], ends, 4) == [0, 1, 2, 3]
    assert straightest(found, 0.1, [""] * 4, ["", ""], 4) == [0, 1, 2, 3]


def test_long_ways_of_many_tracks_are_the_best_ones() -> None:
    """Of all ways of four tracks, by trying them."""
    random = np.random.default_rng(4)
    found = np.round(np.sort(random.random((9, 2)), axis=0), 1)
    names = [f"a{number}" for number in random.integers(3, size=9)]
    players = ["a0", *names, "a1"]

    def cost(way: tuple[int, ...]) -> tuple[int, float]:
        heard = [0, *(place + 1 for place in way), 10]
        repeats = sum(players[one] == players[other] for one, other in pairwise(heard))
        shares = np.arange(1, 5) / 5
        return repeats, float(_from_points(found[list(way)], 0.0, shares).sum())

    ways = [way for way in permutations(range(9), 4) if all(found[a, 1] < found[b, 1] for a, b in pairwise(way))]
    best = min(map(cost, ways))
    way = tuple(straightest(found, 0.0, names, ["a0", "a1"], 4))
    assert len(way) == 4
    assert cost(way) == pytest.approx(best)


def test_ends_count_as_neighbours() -> None:
    found = np.array([[0.9, 0.3], [0.8, 0.4], [0.5, 0.7], [0.4, 0.8]])
    assert straightest(found, 0.1, ["a", "b", "c", "d"], ["a", "d"], 2) == [1, 2]


def test_nothing_lies_between_neighbours() -> None:
    assert straightest(np.zeros((0, 2)), 0.5, [], ["", ""], 8) == []
    assert straightest(np.array([[0.9, 0.4]]), 0.5, [""], ["", ""], 8) == []


def tracks(answer: Any) -> list[str]:
    return [each["id"] for each in answer["results"]]


@pytest.mark.django_db
@pytest.mark.parametrize("model", ["muq", "mert", "latent"])
def test_path_holds_start_and_end_and_is_the_same_again(ask: Ask, music: Library, model: str) -> None:
    asked = {"start": "t00", "end": "t13", "limit": 6, "models": model}
    found = ask(URL, **asked)
    assert (tracks(found)[0], tracks(found)[-1]) == ("t00", "t13")
    assert len(set(tracks(found))) == len(tracks(found)) <= 6
    assert ask(URL, **asked) == found


@pytest.mark.django_db
def test_path_comes_closer_with_every_step(ask: Ask, music: Library) -> None:
    vectors = music.world.spaces["muq"].vectors
    found = tracks(ask(URL, start="t00", end="t13", limit=8))
    nearness = [float(np.dot(vectors[each], vectors["t13"])) for each in found]
    assert nearness == sorted(nearness)


@pytest.mark.django_db
def test_path_has_each_recording_once(ask: Ask, music: Library) -> None:
    same = {"title": "Gnossienne No. 3", "artist": "Erik Satie"}
    music.tell({i: row(int(i[1:])) | (same if i != "t05" else {}) for i in music.world.tracks})
    assert tracks(ask(URL, start="t00", end="t13", limit=30)) in (["t00", "t13"], ["t00", "t05", "t13"])


@pytest.mark.django_db
@pytest.mark.parametrize(("start", "end", "length"), [("t00", "nobody", 0), ("nobody", "t00", 0), ("t00", "t00", 1)])
def test_path_of_unknown_or_equal_ends(ask: Ask, music: Library, start: str, end: str, length: int) -> None:
    assert len(tracks(ask(URL, start=start, end=end))) == length


@pytest.mark.django_db
def test_path_shows_nobody_what_he_may_not_see(ask: Ask, music: Library) -> None:
    assert tracks(ask(URL, start="t00", end="t04", user="ann")) == []
    found = tracks(ask(URL, start="t00", end="t13", user="ann", limit=20))
    assert all(int(each[1:]) % 5 != 4 for each in found)


@pytest.mark.django_db
def test_path_without_vectors_is_empty_and_says_why(ask: Ask, library: Library) -> None:
    Track.objects.all().delete()
    assert ask(URL, start="a", end="b") == {"results": [], "warnings": ["MuQ does not know any track yet."]}


@pytest.mark.django_db
def test_path_lies_in_the_space_of_the_first_model_that_has_one(ask: Ask, music: Library) -> None:
    EmbeddingSpace.objects.filter(model="muq").update(status="kept")
    asked = {"start": "t00", "end": "t13", "limit": 6}
    assert ask(URL, models=["muq", "mert"], **asked) == ask(URL, models=["mert"], **asked)
    assert tracks(ask(URL, models=["mert"], **asked))
