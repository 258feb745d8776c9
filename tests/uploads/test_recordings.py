"""The same recording is recognised through formats and cuts; what was played, mixed or edited anew is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embeddings.audio import recording
from embeddings.audio.recording import Fingerprinter, is_same
from tests.uploads import pairs

FEW = ("techno", "piano")


def verdicts(found: list[pairs.Pair]) -> dict[str, list[bool]]:
    verdicts: dict[str, list[bool]] = {}
    for pair in found:
        verdicts.setdefault(pair.kind, []).append(is_same(pair.one, pair.other))
    return verdicts


def test_the_same_recording_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "GENRES", FEW[:1])
    found = verdicts(list(pairs.same_pairs(tmp_path, 0)))
    assert len(found) == 13
    assert found == {kind: [True] for kind in found}


def test_another_recording_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "GENRES", FEW)
    found = verdicts(list(pairs.different_pairs(tmp_path, 0)))
    assert len(found) == 7
    assert not any(verdict for kind in found.values() for verdict in kind)


@pytest.mark.soak
def test_precision_and_recall(tmp_path: Path) -> None:
    """Prints the table of docs/uploads.md."""
    same = verdicts([pair for seed in range(10) for pair in pairs.same_pairs(tmp_path, seed)])
    other = verdicts([pair for seed in range(10) for pair in pairs.different_pairs(tmp_path, seed)])
    for kind, each in (same | other).items():
        print(f"| {kind} | {len(each)} | {sum(each)} |")
    hits, false = (sum(map(sum, found.values())) for found in (same, other))
    assert hits / sum(map(len, same.values())) >= 0.99
    assert hits / (hits + false) >= 0.99


def heard(*pieces: pairs.Sound) -> Fingerprinter:
    fingerprinter = Fingerprinter()
    for piece in pieces:
        fingerprinter.push(piece)
    return fingerprinter


def test_pieces_of_any_length_make_the_same_bits() -> None:
    sound = np.random.default_rng(0).standard_normal(80_000).astype(np.float32)
    whole = heard(sound).bits()
    assert len(whole) == 145
    assert np.array_equal(heard(*np.split(sound, [1, 777, 5_000, 5_001, 60_000])).bits(), whole)


def test_what_is_short_or_silent_is_like_nothing() -> None:
    for pieces in ([], [np.zeros(100, np.float32)], [np.zeros(200_000, np.float32)]):
        found = heard(*pieces).fingerprint()
        assert not is_same(found, found)


def test_bands_are_those_of_librosa() -> None:
    from librosa.filters import mel

    wanted = mel(sr=8_000, n_fft=4_096, n_mels=33, fmin=200, fmax=3_200)
    np.testing.assert_allclose(recording._bands(), wanted, rtol=1e-5, atol=1e-9)
