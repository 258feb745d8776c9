"""Several instances on one Milvus: nobody touches what is another's. Real ones: processes/test_two_instances.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from batches.housekeeping import give_back
from embeddings.checks import check_milvus
from embeddings.errors import IndexUnavailable
from embeddings.index import ownership
from embeddings.index.sync import ensure_live_aliases, index_pending, rebuild_index, reconcile, vector_store
from embeddings.models import EmbeddingSpace, Instance, instance_mark
from tests.index.conftest import rows, unit
from tests.index.test_indexing import embed, in_milvus, new_space
from tests.milvus import LiteServer

pytestmark = [pytest.mark.django_db, pytest.mark.database]
FORMER = "navembed_muq_{}_ffffffff"


@pytest.fixture
def space(db: None, milvus: LiteServer, settings: Any) -> EmbeddingSpace:
    """Five embeddings, t0 to t4, in a Milvus that is not of our own home, under the aliases."""
    settings.MILVUS_URI = f"unix:{milvus.socket}"
    space = new_space("muq", 16)
    embed(space, unit(5, 16))
    rebuild_index(space)
    return space


@pytest.fixture
def others(milvus: LiteServer, settings: Any) -> str:
    """A collection of another instance's, to which the aliases belong."""
    settings.MILVUS_URI = f"unix:{milvus.socket}"
    name = "navembed_00000000_muq_1_ffffffff"
    _fill(name, "x")
    vector_store().create_alias("embedding", name)
    return name


@pytest.fixture
def copied(space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch) -> EmbeddingSpace:
    """From now on we are a copy that lies elsewhere."""
    monkeypatch.setattr(ownership, "place_mark", lambda: "elsewhere")
    space.embeddings.filter(track_id="t1").delete()
    return space


def _fill(name: str, prefix: str) -> None:
    store = vector_store()
    store.ensure_collection(name, 16)
    store.upsert(name, rows(3, prefix=prefix, dimension=16), dimension=16)
    store.flush(name)


def former(prefix: str) -> EmbeddingSpace:
    """A space of a version before marks, with tracks t0 to t2 that were indexed, and what is in its collection."""
    space = new_space("muq", 16)
    embed(space, unit(3, 16))
    space.embeddings.update(index_state="indexed")
    EmbeddingSpace.objects.update(instance="")
    space.refresh_from_db()
    _fill(space.collection, prefix)
    vector_store().create_alias("embedding", space.collection)
    return space


def test_collections_are_named_after_the_instance_and_a_new_one_has_another_name(space: EmbeddingSpace) -> None:
    assert space.collection == f"navembed_{instance_mark()}_muq_{space.pk}_ffffffff"
    Instance.objects.all().delete()
    assert new_space("mert", 16).instance != space.instance


@pytest.mark.parametrize("act", [index_pending, rebuild_index, reconcile])
def test_copy_changes_nothing_and_says_whose_the_collection_is(copied: EmbeddingSpace, act: Any) -> None:
    with pytest.raises(IndexUnavailable, match=r"another copy of this instance, .*adopt_milvus --separate"):
        act(copied)
    assert in_milvus(copied) == {f"t{n}" for n in range(5)}
    assert "another copy" in ownership.notice()


def test_copy_gives_back_no_collection(copied: EmbeddingSpace) -> None:
    EmbeddingSpace.objects.update(status="dropping")
    give_back(60.0)
    assert vector_store().exists(copied.collection)
    assert EmbeddingSpace.objects.exists()


def test_copy_that_adopts_goes_on_and_the_other_one_then_waits(
    copied: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_command("adopt_milvus")
    assert reconcile(copied).surplus == 1
    monkeypatch.undo()
    with pytest.raises(IndexUnavailable, match="another copy"):
        reconcile(copied)


def test_copy_that_separates_has_collections_of_its_own(copied: EmbeddingSpace) -> None:
    call_command("adopt_milvus", "--separate")
    assert in_milvus(EmbeddingSpace.objects.get()) == {"t0", "t2", "t3", "t4"}
    assert in_milvus(copied) == {f"t{n}" for n in range(5)}


def test_lite_of_our_own_home_is_ours_whatever_a_copy_says(copied: EmbeddingSpace, settings: Any) -> None:
    settings.MILVUS_URI = ""
    assert reconcile(copied).surplus == 1


def test_place_is_another_one_for_a_copied_home(
    short_tmp: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ownership.place_mark()
    assert here == ownership.place_mark()
    settings.NAVEMBED_HOME = short_tmp
    (short_tmp / "secret_key").touch()
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", str(short_tmp / "navembed.sqlite3"))
    assert (ownership.place_mark() == here) == (settings.DATABASES["default"]["ENGINE"].endswith("postgresql"))


def test_aliases_of_another_instance_stay_until_somebody_takes_them_over(others: str) -> None:
    space = new_space("muq", 16)
    embed(space, unit(5, 16))
    mert = new_space("mert", 16)
    rebuild_index(space)
    rebuild_index(mert)
    store = vector_store()
    assert (store.alias_target("embedding"), store.alias_target("mert_embedding")) == (others, None)
    assert f"embedding names {others}" in ownership.notice()
    call_command("adopt_milvus")
    assert (store.alias_target("embedding"), store.alias_target("mert_embedding")) == (
        space.collection,
        mert.collection,
    )
    assert (store.count(others), ownership.notice()) == (3, "")


def test_check_names_the_other_instance(others: str) -> None:
    [message] = check_milvus()
    assert (message.id, f"embedding names {others}" in message.msg) == ("navembed.W004", True)


def test_collection_of_an_earlier_version_is_renamed_and_nothing_sent_again(milvus: LiteServer) -> None:
    space = former("t")
    assert index_pending(space) == 0
    assert (space.instance, in_milvus(space)) == (instance_mark(), {"t0", "t1", "t2"})
    ensure_live_aliases()
    assert vector_store().alias_target("embedding") == space.collection
    assert not vector_store().exists(FORMER.format(space.pk))


@pytest.mark.parametrize("act", [index_pending, rebuild_index])
def test_collection_of_an_earlier_version_with_others_vectors_is_left_and_ours_made_anew(
    milvus: LiteServer, act: Any
) -> None:
    space = former("x")
    assert act(space) == 3
    assert in_milvus(space) == {"t0", "t1", "t2"}
    assert set(vector_store().ids(FORMER.format(space.pk))) == {"x0", "x1", "x2"}


def test_reconciling_a_collection_of_an_earlier_version_deletes_none_of_others_vectors(milvus: LiteServer) -> None:
    space = former("x")
    assert reconcile(space) == (3, 0)
    assert set(vector_store().ids(FORMER.format(space.pk))) == {"x0", "x1", "x2"}
