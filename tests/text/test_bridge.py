"""Bridges: learnt from a library, kept in a file that runs nothing, used with their own spaces alone."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command

from embeddings.checks import check_old_text_projections
from embeddings.errors import TextUnavailable
from embeddings.models import Embedding, EmbeddingSpace
from embeddings.search import bridge_fitting
from embeddings.search.bridge import Bridge, bridge_between, bridge_path, write_bridge
from embeddings.search.bridge_fitting import fit_bridge
from tests.index.conftest import unit
from tests.text.conftest import WORDS, Library, common, live, make_library

pytestmark = [pytest.mark.django_db, pytest.mark.database]


# Learning


def test_it_learns_how_one_model_follows_from_the_other() -> None:
    library = make_library()
    bridge = fit_bridge("mert")
    new = unit(5, WORDS, seed=9)
    for words, expected in zip(new, new @ library.way + common(12), strict=True):
        assert bridge.apply(words) @ expected / np.linalg.norm(expected) > 0.99


def test_the_share_of_tracks_that_find_themselves_is_reported() -> None:
    make_library(noise=0.01)
    origin = fit_bridge("mert").origin
    assert (origin.recall, origin.explained) > (0.95, 0.9)
    assert 40 < origin.kept_aside < 80


def test_what_cannot_be_learnt_is_reported_too() -> None:
    live("muq", unit(300, 3 * WORDS))
    live("mert", unit(300, 12, seed=5))
    origin = fit_bridge("mert").origin
    assert origin.recall < 0.5
    assert origin.explained < 0.1


def test_a_library_read_in_small_blocks_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    make_library(noise=0.1)
    at_once = fit_bridge("mert")
    monkeypatch.setattr(bridge_fitting, "BLOCK", 7)
    seen: list[tuple[int, int]] = []
    in_blocks = fit_bridge("mert", progress=lambda done, tracks: seen.append((done, tracks)))
    np.testing.assert_allclose(in_blocks.weights, at_once.weights, atol=1e-4)
    assert (len(seen), seen[-1]) == (43, (300, 300))


def test_tracks_that_get_new_ids_teach_the_same() -> None:
    make_library(noise=0.1)
    before = fit_bridge("mert")
    for row in Embedding.objects.all():
        Embedding.objects.filter(pk=row.pk).update(track_id=row.track_id[::-1])
    assert fit_bridge("mert").origin == before.origin


def test_only_tracks_with_both_count() -> None:
    library = make_library(250)
    library.words.embeddings.filter(track_id__lt="t0010").delete()
    library.space.embeddings.filter(track_id__gte="t0245").update(index_state=Embedding.IndexState.DELETING)
    assert fit_bridge("mert").origin.tracks == 235


def test_embeddings_that_are_searched_by_a_projection_are_learnt_whole() -> None:
    library = make_library(dimension=2_100, noise=0.01)
    bridge = fit_bridge("mert")
    expected = library.means[0] @ library.way + common(2_100)
    assert bridge.apply(library.means[0]) @ expected / np.linalg.norm(expected) > 0.99
    assert bridge.origin.recall > 0.9


def test_too_few_tracks_are_refused_with_a_sentence() -> None:
    make_library(29)
    with pytest.raises(TextUnavailable, match="29 tracks have both a muq and a mert embedding; a bridge needs 30"):
        fit_bridge("mert")


def test_a_model_without_vectors_is_refused() -> None:
    live("muq", unit(1, 3 * WORDS))
    with pytest.raises(TextUnavailable, match="nothing has been embedded with mert yet"):
        fit_bridge("mert")


# The file


@pytest.fixture
def library(bridges: Path) -> Library:
    return make_library()


@pytest.fixture
def written(library: Library) -> Bridge:
    bridge = fit_bridge("mert")
    write_bridge(bridge)
    return bridge


def test_what_is_written_is_mapped_again(written: Bridge, library: Library) -> None:
    found = bridge_between(library.words, library.space, "mert")
    assert found.origin == written.origin
    assert isinstance(found.weights.base, np.memmap)
    np.testing.assert_array_equal(found.weights, written.weights)
    np.testing.assert_array_equal(found.apply(library.means[0]), written.apply(library.means[0]))


def test_a_bridge_that_is_written_anew_takes_the_place_of_the_old(written: Bridge, library: Library) -> None:
    bridge_between(library.words, library.space, "mert")
    write_bridge(Bridge(written.origin, -written.weights, written.intercept))
    np.testing.assert_array_equal(bridge_between(library.words, library.space, "mert").weights, -written.weights)
    assert [path.name for path in bridge_path("mert").parent.iterdir()] == ["text_bridge_mert.safetensors"]


def test_a_failed_write_leaves_the_old_one(written: Bridge, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        write_bridge(written)
    assert bridge_between(library.words, library.space, "mert").origin == written.origin
    assert len(list(bridge_path("mert").parent.iterdir())) == 1


def test_without_a_bridge_it_says_what_to_run(library: Library) -> None:
    with pytest.raises(TextUnavailable, match=r"`manage\.py fit_text_bridge mert` learns"):
        bridge_between(library.words, library.space, "mert")


@pytest.mark.parametrize("changed", ["muq", "mert"])
def test_it_goes_stale_with_each_of_its_spaces(written: Bridge, library: Library, changed: str) -> None:
    EmbeddingSpace.objects.filter(model=changed).update(fingerprint="of other weights")
    spaces = [EmbeddingSpace.objects.get(model=model) for model in ("muq", "mert")]
    with pytest.raises(TextUnavailable, match=r"`manage\.py fit_text_bridge mert` again"):
        bridge_between(*spaces, "mert")


def test_a_renamed_bridge_is_not_another_models(written: Bridge, library: Library) -> None:
    bridge_path("mert").rename(bridge_path("latent"))
    with pytest.raises(TextUnavailable, match="fit_text_bridge latent"):
        bridge_between(library.words, library.space, "latent")


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "no header": lambda data: data[:5],
    "half a header": lambda data: data[:50],
    "half a tensor": lambda data: data[:-20],
    "another file": lambda data: b"PK\x03\x04" + data[4:],
    "no JSON": lambda data: data[:8] + b"#" + data[9:],
    "another version": lambda data: data.replace(b'"version":"1"', b'"version":"2"'),
    "no numbers": lambda data: data.replace(b'"tracks":"300"', b'"tracks":"3x0"'),
    "other numbers": lambda data: data.replace(b'"F32"', b'"I32"'),
    "another shape": lambda data: data.replace(b"[8,12]", b"[8,99]"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_refused(damage: Callable[[bytes], bytes], written: Bridge, library: Library) -> None:
    path = bridge_path("mert")
    before = path.read_bytes()
    path.write_bytes(damage(before))
    assert path.read_bytes() != before
    with pytest.raises(TextUnavailable, match=r"is damaged; run `manage\.py fit_text_bridge mert` again"):
        bridge_between(library.words, library.space, "mert")


def test_a_bridge_of_no_numbers_makes_no_vector(written: Bridge, library: Library) -> None:
    write_bridge(Bridge(written.origin, written.weights * np.float32(np.nan), written.intercept))
    with pytest.raises(TextUnavailable, match="damaged"):
        bridge_between(library.words, library.space, "mert").apply(library.means[0])


def test_using_a_bridge_needs_no_torch(written: Bridge) -> None:
    script = """
import sys, django
django.setup()
from pathlib import Path
import numpy as np
from embeddings.search.bridge import _opened
bridge = _opened(Path(sys.argv[1]), ())
assert bridge.apply(np.ones(8, np.float32)).shape == (12,)
sys.exit("torch" in sys.modules)
"""
    command = [sys.executable, "-c", script, str(bridge_path("mert"))]
    subprocess.run(command, check=True, cwd=django_settings.BASE_DIR)


# The command, and what the replaced system left


def test_the_command_says_what_it_is_worth(library: Library) -> None:
    out = io.StringIO()
    call_command("fit_text_bridge", "mert", stdout=out)
    assert (
        "mert answers to texts, learnt from 300 tracks: of 60 kept aside 100% are among the 10 nearest"
        in out.getvalue()
    )
    assert bridge_between(library.words, library.space, "mert").origin.tracks == 300


def test_the_command_refuses_in_a_sentence(bridges: Path) -> None:
    with pytest.raises(CommandError, match=r"nothing has been embedded with muq yet\.$"):
        call_command("fit_text_bridge", "latent")
    assert list(bridges.iterdir()) == []


def test_the_native_model_needs_no_bridge() -> None:
    with pytest.raises(CommandError, match="invalid choice: 'muq'"):
        call_command("fit_text_bridge", "muq")


def test_projections_of_the_replaced_system_give_a_warning(bridges: Path) -> None:
    assert check_old_text_projections() == []
    (bridges / "text_to_mert_best_r1.pt").write_bytes(b"pickled")
    [warning] = check_old_text_projections()
    assert "text_to_mert_best_r1.pt is a text projection of the replaced system" in warning.msg
    assert "fit_text_bridge" in str(warning.hint)


def test_facts_of_a_bridge_are_readable_by_anybody(written: Bridge) -> None:
    data = bridge_path("mert").read_bytes()
    facts = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert (facts["model"], facts["tracks"], facts["words"]) == ("mert", "300", "fingerprint of muq")
