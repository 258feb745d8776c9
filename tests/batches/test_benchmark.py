"""``manage.py benchmark jobs`` on a small library; its figures say nothing here."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from embeddings.encoders.registry import ENCODERS
from navembed_site.benchmarks import search, similar
from tests.milvus import LiteServer, lite_server, milvus

__all__ = ["lite_server", "milvus"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def figures(folder: Path) -> dict[str, dict[str, Any]]:
    out = StringIO()
    call_command("benchmark", "jobs", "--tracks", "1000", "--folder", str(folder), "--json", stdout=out)
    return {figure["what"]: figure for figure in json.loads(out.getvalue())}


def test_every_measure_is_reported(figures: dict[str, dict[str, Any]]) -> None:
    assert all(figure["value"] > 0 for figure in figures.values())
    assert {what: (figure["wanted"], figure["unit"]) for what, figure in figures.items() if figure["wanted"]} == {
        "start of a job, to its first chunk": (60, "s"),
        "peak memory of the start": (500, "MB"),
        "peak memory of a job with nothing to do": (500, "MB"),
        "resume of a half-done job, to its next chunk": (10, "s"),
        "progress query": (10, "ms"),
    }


def test_chunk_is_as_large_as_on_a_fast_device(figures: dict[str, dict[str, Any]]) -> None:
    assert "commit of a chunk of 300 results" in figures


def test_instance_of_its_own_is_used_and_leaves_nothing(figures: dict[str, dict[str, Any]], folder: Path) -> None:
    assert list(folder.iterdir()) == []
    assert not (settings.NAVEMBED_HOME / "navidrome.db").exists()


def test_library_too_small_to_measure_is_refused() -> None:
    with pytest.raises(CommandError, match="at least 1000"):
        call_command("benchmark", "jobs", "--tracks", "10")


def test_search_in_a_library_too_small_is_refused() -> None:
    with pytest.raises(CommandError, match="at least 500"):
        call_command("benchmark", "search", "--tracks", "10")


@pytest.mark.django_db
def test_recommendations_are_measured_with_their_stages(milvus: LiteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for encoder in ENCODERS:
        monkeypatch.setattr(encoder, "published_dimension", 24)
    monkeypatch.setattr(search, "REPEATS", 2)
    monkeypatch.setattr(search, "WARM_UP", 0)
    monkeypatch.setattr(settings, "NAVIDROME_DB_PATH", settings.NAVEMBED_HOME / search.DATABASE)
    figures = search.measure_here(500)
    (settings.NAVEMBED_HOME / search.DATABASE).unlink()
    assert [each["median"] > 0 for each in figures] == [True] * 4
    assert set(figures[1]["stages"]) == set(search.STAGES.values())


@pytest.mark.django_db(transaction=True)
def test_similar_tracks_are_measured_in_a_library_that_was_filled(
    milvus: LiteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for encoder in ENCODERS:
        monkeypatch.setattr(encoder, "published_dimension", 24)
    monkeypatch.setattr(similar, "REPEATS", 2)
    monkeypatch.setattr(similar, "WARM_UP", 0)
    monkeypatch.setattr(settings, "NAVIDROME_DB_PATH", settings.NAVEMBED_HOME / search.DATABASE)
    figures = similar.measure_here(500)
    (settings.NAVEMBED_HOME / search.DATABASE).unlink()
    assert [each["wanted"] for each in figures] == [None, 300, None, 1000, None, None]
    assert all(each["value"] > 0 for each in figures)
