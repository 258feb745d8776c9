"""The `spaces` command and the console's actions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from embeddings.index.store import VectorStore
from embeddings.models import EmbeddingSpace
from tests.index.conftest import unit
from tests.milvus import LiteServer
from tests.spaces.conftest import DIMENSION, embed, indexed, make_space, statuses

pytestmark = pytest.mark.django_db
Output = pytest.CaptureFixture[str]


@pytest.fixture
def two(milvus: LiteServer) -> None:
    """A kept and a live space, both in Milvus."""
    indexed(make_space("old", "kept", vectors=3))
    indexed(make_space("new", vectors=3))


@pytest.fixture
def build(milvus: LiteServer) -> EmbeddingSpace:
    """A build beside a live space; one of its 20 tracks, which search finds now, has failed."""
    embed(make_space("old"), unit(1, DIMENSION), ["failed"])
    return indexed(make_space("new", "building", vectors=19))


def alias_of() -> str:
    return str(VectorStore()._read("describe_alias", "embedding")["collection_name"])


def test_list_shows_every_space(two: None, capsys: Output) -> None:
    call_command("spaces", "--json")
    kept, live = json.loads(capsys.readouterr().out)
    assert (kept["status"], live["status"], live["vectors"], live["bytes"]) == ("kept", "live", 3, 3 * 2 * 16 * 4)
    call_command("spaces")
    assert "muq" in capsys.readouterr().out


def test_rollback_and_its_alias(two: None, capsys: Output) -> None:
    call_command("spaces", "--rollback", "muq")
    assert statuses() == ["live", "kept"]
    assert "Search uses muq" in capsys.readouterr().err
    assert alias_of() == EmbeddingSpace.objects.get(status="live").collection


def test_rollback_with_nothing_kept_is_refused(milvus: LiteServer) -> None:
    make_space("new")
    with pytest.raises(CommandError, match="nothing to go back to"):
        call_command("spaces", "--rollback", "muq")


def test_rollback_without_milvus_says_what_is_left_to_do(two: None, milvus: LiteServer, capsys: Output) -> None:
    for name in VectorStore().collections():
        VectorStore().drop(name)
    call_command("spaces", "--rollback", "muq")
    assert statuses() == ["live", "kept"]
    assert "run rebuild_index" in capsys.readouterr().err


def test_yes_to_failures_makes_live_and_tells_the_figures(build: EmbeddingSpace, capsys: Output) -> None:
    call_command("spaces", "--make-live", "muq")
    assert statuses() == ["kept", "live"]
    assert "1 of 20 tracks (5.0%) have a vector now and would lose it" in capsys.readouterr().err
    assert alias_of() == build.collection


def test_yes_to_more_than_failures_is_refused(build: EmbeddingSpace) -> None:
    build.embeddings.filter(track_id="t1").update(index_state="pending")
    with pytest.raises(CommandError, match="1 vectors are not in Milvus"):
        call_command("spaces", "--make-live", "muq")
    assert statuses() == ["live", "building"]


def test_drop_of_a_build_and_of_a_kept_space(capsys: Output) -> None:
    for status in ("kept", "live", "building"):
        make_space(status, status)
    call_command("spaces", "--drop", "muq")
    assert statuses() == ["kept", "live", "dropping"]
    call_command("spaces", "--drop", "muq", "--kept")
    assert statuses() == ["dropping", "live", "dropping"]
    with pytest.raises(CommandError, match="no kept vectors"):
        call_command("spaces", "--drop", "muq", "--kept")
    with pytest.raises(CommandError, match="goes with --drop"):
        call_command("spaces", "--kept")


# The console


def press(client: Client, button: str, space: EmbeddingSpace) -> list[str]:
    reply: Any = client.post(reverse(f"console:{button}", args=[space.pk]), follow=True)
    return [str(message) for message in reply.context["messages"]]


def test_console_goes_back(admin_client: Client, two: None) -> None:
    told = press(admin_client, "go_back", EmbeddingSpace.objects.get(status="kept"))
    assert told == ["Search uses the former muq vectors again."]
    assert statuses() == ["live", "kept"]


def test_console_says_yes(admin_client: Client, build: EmbeddingSpace) -> None:
    assert press(admin_client, "make_live", build) == ["Search uses the new muq vectors now."]
    assert statuses() == ["kept", "live"]


def test_console_drops(admin_client: Client, build: EmbeddingSpace) -> None:
    assert "given back" in press(admin_client, "drop", build)[0]
    assert statuses() == ["live", "dropping"]


@pytest.mark.parametrize("button", ["make_live", "go_back", "drop"])
def test_console_refuses_what_does_not_fit(admin_client: Client, build: EmbeddingSpace, button: str) -> None:
    told = press(admin_client, button, EmbeddingSpace.objects.get(status="live"))
    assert told == ["These muq vectors are live now, so nothing was changed."]
    assert statuses() == ["live", "building"]
