"""What a job would do, why, and whether it fits on the disk; nothing is written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from batches.models import ModelProgress, TrackResult
from embeddings.embedder.client import EmbedderClient
from embeddings.encoders.registry import MODEL_KEYS, encoder_class
from embeddings.errors import LibraryUnavailable, NavembedError
from embeddings.library import LibraryTrack, open_library
from embeddings.models import Embedding, EmbeddingSpace
from embeddings.projection import search_dimension
from embeddings.spaces import WRITABLE, fingerprint_of, live_space
from embeddings.vectors import DTYPES

NEW, CHANGED, FAILED, ANEW, UP_TO_DATE = "new", "changed", "failed before", "anew", "up to date"
ROW_BYTES = 2_300  # of an embedding beside its vector: SQLite's pages are not filled, and there are five indexes
INDEX_FACTOR = 2.1  # Milvus Lite keeps a vector twice, measured with 512, 1,536 and 2,048 numbers
RESERVE = 1.05


class DiskFull(NavembedError):
    """What would be written does not fit on the disk."""


@dataclass(frozen=True)
class DiskNeed:
    """What a file system would have to take."""

    path: str
    needed_bytes: int
    free_bytes: int

    @property
    def fits(self) -> bool:
        return self.needed_bytes * RESERVE <= self.free_bytes


@dataclass
class ModelPreview:
    """What one model would do."""

    model: str
    dimension: int
    fingerprint_changed: bool
    """Whether its weights or recipe are not those of what search uses now: then everything is embedded anew."""
    tracks: dict[str, int] = field(default_factory=lambda: dict.fromkeys((NEW, CHANGED, FAILED, ANEW, UP_TO_DATE), 0))
    """By what is to happen to them."""
    gone: int = 0
    """Embeddings of tracks that the library does not show; they are pruned or, where audio is known, taken over."""
    audio_seconds: float = 0.0
    """To be embedded, as the library declares them."""
    work_seconds: float | None = None
    """None while nothing has been measured."""
    vectors: int = 0
    """That come on top of those there are."""
    database_bytes: int = 0
    index_bytes: int = 0


@dataclass(frozen=True)
class Preview:
    """What a job would do."""

    tracks: int
    """In the library, as far as the job may touch it."""
    models: list[ModelPreview]
    disks: list[DiskNeed]

    @property
    def work_seconds(self) -> float | None:
        times = [model.work_seconds for model in self.models]
        return None if None in times else sum(time for time in times if time)

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON takes."""
        models = {model.model: asdict(model) for model in self.models}
        disks = [asdict(disk) | {"fits": disk.fits} for disk in self.disks]
        return {"tracks": self.tracks, "work_seconds": self.work_seconds, "models": models, "disks": disks}


def preview(
    models: Sequence[str] | None = None,
    *,
    clear_existing: bool = False,
    limit: int | None = None,
    library_id: int | None = None,
    path_prefix: str = "",
    only_track: str = "",
) -> Preview:
    """Compare the library, page by page, with what has been embedded; the embedder says what its weights are.

    Raises LibraryUnavailable, EmbedderUnavailable, WeightsMissing, WeightsUnusable.
    """
    restricted = bool(limit or library_id is not None or path_prefix or only_track)
    client = EmbedderClient()
    counts = [_Count(model, client, clear=clear_existing, restricted=restricted) for model in _keys(models)]
    tracks = 0
    for page in open_library().pages():
        reasons = [count.reasons(page) for count in counts]
        for number, track in enumerate(page):
            if library_id not in (None, track.library_id) or not track.path.startswith(path_prefix):
                continue
            if only_track not in ("", track.id):
                continue
            of_track = [found[number] for found in reasons]
            is_due = any(reason != UP_TO_DATE for reason, _ in of_track)
            if limit is not None and is_due:
                if limit == 0:
                    continue
                limit -= 1
            tracks += 1
            for count, (reason, is_known) in zip(counts, of_track, strict=True):
                count.add(track, reason, is_known=is_known)
    found = [count.finished() for count in counts]
    need = sum(model.database_bytes for model in found), sum(model.index_bytes for model in found)
    return Preview(tracks, found, list(_disks(*need)))


def require_space(
    models: Sequence[str] | None = None,
    *,
    clear_existing: bool = False,
    limit: int | None = None,
    library_id: int | None = None,
    path_prefix: str = "",
    only_track: str = "",
) -> None:
    """Raise DiskFull, with the figures, when a job would not fit; cheap, by counts alone.

    Says nothing when the library cannot be read now, and of a job over a part that nobody has counted.
    """
    if library_id is not None or path_prefix or only_track:
        return
    try:
        tracks = open_library().count()
    except LibraryUnavailable:
        return
    database = index = 0
    for model in _keys(models):
        space = _counted_space(model, clear=clear_existing and limit is None)
        missing = max(0, tracks - (space.embeddings.count() if space else 0))
        dimension = space.dimension if space else encoder_class(model).published_dimension
        for_database, for_index = _bytes(model, dimension, missing if limit is None else min(limit, missing))
        database, index = database + for_database, index + for_index
    for disk in _disks(database, index):
        if not disk.fits:
            raise DiskFull(
                f"the vectors need about {size_text(disk.needed_bytes)} in {disk.path}, where "
                f"{size_text(disk.free_bytes)} are free: make room, or start with fewer models"
            )


class _Count:
    """Counts for one model; holds one page at a time."""

    def __init__(self, model: str, client: EmbedderClient, *, clear: bool, restricted: bool) -> None:
        description = client.describe(model)
        live, fingerprint = live_space(model), fingerprint_of(description)
        changed = bool(live and live.fingerprint != fingerprint)
        self.result = ModelPreview(model, description.dimension, changed)
        self._clear = clear
        self._whole = not restricted
        self._seen = 0
        # Where everything is made anew it goes beside what search uses.
        spaces = EmbeddingSpace.objects.filter(model=model, fingerprint=fingerprint, status__in=WRITABLE)
        self._space = None if clear and self._whole else spaces.order_by("-status").first()  # live before building

    def reasons(self, page: Sequence[LibraryTrack]) -> list[tuple[str, bool]]:
        """Return for each track what would happen to it, and whether it has a vector already."""
        rows = self._rows().filter(track_id__in=[track.id for track in page])
        files = {track_id: (size, mtime) for track_id, size, mtime in rows.values_list("track_id", "size", "mtime")}
        self._seen += len(files)
        failed = self._failed([track.id for track in page if track.id not in files])
        return [(self._reason(track, files.get(track.id), track.id in failed), track.id in files) for track in page]

    def _failed(self, ids: list[str]) -> set[str]:
        if self._clear or not ids:
            return set()
        failures = TrackResult.objects.filter(model=self.result.model, status=TrackResult.Status.FAILED)
        return set(failures.filter(track_id__in=ids).values_list("track_id", flat=True))

    def _reason(self, track: LibraryTrack, file: tuple[int, str] | None, failed: bool) -> str:
        if self._clear:
            return ANEW
        if file is None:
            return FAILED if failed else NEW
        return UP_TO_DATE if file == (track.size, track.mtime) else CHANGED

    def add(self, track: LibraryTrack, reason: str, *, is_known: bool) -> None:
        self.result.tracks[reason] += 1
        if reason != UP_TO_DATE:
            self.result.audio_seconds += track.duration
            self.result.vectors += not is_known

    def finished(self) -> ModelPreview:
        result = self.result
        if self._whole:
            result.gone = max(0, self._rows().count() - self._seen)
        rates = ModelProgress.objects.filter(model=result.model, rate__gt=0).order_by("-job_id")
        rate = rates.values_list("rate", flat=True).first()
        if rate or not result.audio_seconds:
            result.work_seconds = result.audio_seconds / (rate or 1) / len(settings.DEVICES)
        result.database_bytes, result.index_bytes = _bytes(result.model, result.dimension, result.vectors)
        return result

    def _rows(self) -> Any:
        rows = Embedding.objects.filter(space=self._space) if self._space else Embedding.objects.none()
        return rows.exclude(index_state=Embedding.IndexState.DELETING)


def _keys(models: Sequence[str] | None) -> list[str]:
    return [key for key in MODEL_KEYS if not models or key in models]


def _counted_space(model: str, *, clear: bool) -> EmbeddingSpace | None:
    """Return the space whose vectors need not be made again."""
    if not clear:
        return live_space(model)
    return EmbeddingSpace.objects.filter(model=model, status=EmbeddingSpace.Status.BUILDING).first()


def _bytes(model: str, dimension: int, vectors: int) -> tuple[int, int]:
    """Return what so many vectors take in the database and in the index."""
    encoder = encoder_class(model)
    stored = dimension * DTYPES[encoder.stored_dtype].itemsize + ROW_BYTES
    return vectors * stored, int(vectors * INDEX_FACTOR * 4 * search_dimension(encoder, dimension))


def _disks(database_bytes: int, index_bytes: int) -> Iterator[DiskNeed]:
    """Yield the file systems of this machine that would have to take them; a server's own disk is not ours to see."""
    needs: list[tuple[Path, int]] = []
    if connection.vendor == "sqlite":
        needs.append((Path(connection.settings_dict["NAME"]), database_bytes))
    if not settings.MILVUS_URI:
        needs.append((settings.MILVUS_LITE_FOLDER, index_bytes))
    folders = [(_existing(path), needed) for path, needed in needs]
    for device in dict.fromkeys(folder.stat().st_dev for folder, _ in folders):
        mine = [(folder, needed) for folder, needed in folders if folder.stat().st_dev == device]
        folder = mine[0][0]
        yield DiskNeed(str(folder), sum(needed for _, needed in mine), shutil.disk_usage(folder).free)


def _existing(path: Path) -> Path:
    """Return the nearest folder above ``path`` that exists."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def size_text(number: int) -> str:
    """Return bytes as people read them."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
