"""Where encoded rows lie until they are pooled."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.embedder.row_spool import RowStore, forget_old_rows, forget_spooled

ROWS = np.arange(60, dtype=np.float32).reshape(5, 3, 4)


def filled(store: RowStore, rows: NDArray[np.float32] = ROWS) -> RowStore:
    for index in (3, 0, 4, 1, 2)[: len(rows)]:
        store.put(index, rows[index])
    return store


def test_rows_come_back_by_index(tmp_path: Path) -> None:
    store = filled(RowStore(tmp_path))
    assert not isinstance(store.rows(), np.memmap)
    np.testing.assert_array_equal(store.rows(), ROWS)


def test_beyond_the_limit_they_lie_in_a_file_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RowStore, "memory_limit", 2 * ROWS[0].nbytes)
    store = filled(RowStore(tmp_path))
    rows = store.rows()
    assert isinstance(rows, np.memmap)
    assert not list(tmp_path.iterdir())
    store.close()
    np.testing.assert_array_equal(rows, ROWS)


@pytest.mark.parametrize("limit", [1, 10**9])
def test_a_closed_store_keeps_no_file_open(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RowStore, "memory_limit", limit)
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    for name in ("", "c"):
        store = filled(RowStore(tmp_path, spool_name=name))
        store.close()
        store.close()
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


def test_a_file_still_has_its_rows_after_a_crash(tmp_path: Path) -> None:
    first = RowStore(tmp_path, spool_name="c")
    for index in (0, 1, 3):
        first.put(index, ROWS[index])
    second = RowStore(tmp_path, spool_name="c")  # the first was never closed
    assert [index in second for index in range(5)] == [True, True, False, True, False]
    for index in (2, 4):
        second.put(index, ROWS[index])
    np.testing.assert_array_equal(second.rows(), ROWS)


def test_a_row_without_its_flag_is_not_there(tmp_path: Path) -> None:
    filled(RowStore(tmp_path, spool_name="c")).close()
    flags = tmp_path / "c.done"
    flags.write_bytes(b"\1\1\0\1")  # the power went between row and flag
    assert [index in RowStore(tmp_path, spool_name="c") for index in range(5)] == [True, True, False, True, False]


def test_flags_without_a_shape_are_not_believed(tmp_path: Path) -> None:
    filled(RowStore(tmp_path, spool_name="c")).close()
    (tmp_path / "c.shape").unlink()
    store = RowStore(tmp_path, spool_name="c")
    assert 0 not in store
    np.testing.assert_array_equal(filled(store).rows(), ROWS)


def test_one_track_is_forgotten_with_all_its_models(tmp_path: Path) -> None:
    for name in ("a-muq", "a-mert", "ab-muq"):
        filled(RowStore(tmp_path, spool_name=name)).close()
    forget_spooled(tmp_path, "a")
    assert {path.stem for path in tmp_path.iterdir()} == {"ab-muq"}


def test_what_nobody_has_written_to_for_long_is_forgotten(tmp_path: Path) -> None:
    for name in ("old", "new"):
        filled(RowStore(tmp_path, spool_name=name)).close()
    for path in tmp_path.glob("old.*"):
        os.utime(path, (1_000, 1_000))
    (tmp_path / "somebody.else").touch()
    os.utime(tmp_path / "somebody.else", (1_000, 1_000))
    forget_old_rows(tmp_path, older_than=2_000)
    assert {path.stem for path in tmp_path.iterdir()} == {"new", "somebody"}
