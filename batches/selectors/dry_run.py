"""What a job would do, why, and whether it fits on the disk; nothing is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Count

from batches.engine import hosts, pace
from batches.engine.due import (
    ANEW,
    BAD_FILE,
    FAILED_BEFORE,
    NEW,
    NOT_FAILED,
    REASONS,
    UP_TO_DATE,
    Counts,
    Scope,
    Wanted,
    count,
    end_of_slice,
    wanted,
)
from batches.models import ModelProgress
from batches.requests import EVERYTHING, JobRequest
from embeddings.embedder.available_weights import described_here, download_size
from embeddings.embedder.client import EmbedderClient
from embeddings.encoders.base import Description
from embeddings.encoders.registry import encoder_class
from embeddings.errors import NOT_LOADABLE, EmbedderUnavailable, LibraryUnavailable
from embeddings.index.projection import search_dimension
from embeddings.library import bad_files, open_library, require_tracks
from embeddings.library.base import Tell, tell_nobody
from embeddings.library.sync import scanned
from embeddings.models import EmbeddingSpace
from embeddings.spaces import reuse
from embeddings.spaces.lifecycle import fingerprint_of, live_space
from embeddings.spaces.reuse import NEW_ID, SAME_AUDIO
from embeddings.spaces.vectors import DTYPES
from navembed_site.errors import NavembedError
from navembed_site.terminal import size_text

VERDICTS = (*REASONS, NEW_ID, SAME_AUDIO, BAD_FILE, UP_TO_DATE)
GONE = """
    SELECT COUNT(*) FROM embeddings_embedding e
    WHERE e.space_id = %s AND e.index_state <> 'deleting'
    AND NOT EXISTS (SELECT 1 FROM {scan} t WHERE t.id = e.track_id AND t.playable)
    AND NOT EXISTS (SELECT 1 FROM {known} k WHERE k.vector_id = e.id AND k.model = %s)"""
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
    problem: str = ""
    """Why its weights cannot be used now; empty when nothing is known to be wrong with them."""
    download_bytes: int | None = 0
    """That `fetch_models` would download; None when it is not known."""
    tracks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VERDICTS, 0))
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


def preview(request: JobRequest = EVERYTHING, *, tell: Tell = tell_nobody) -> Preview:
    """Read the library as a job would, and let the same SQL decide what is due; nothing is written.

    ``tell`` is called about once a second while it is read.
    A model whose weights are not there is foreseen with the published ones. Raises NoSuchTracks, LibraryUnavailable,
    EmbedderUnavailable.
    """
    require_tracks(request.library_id, request.path_prefix)
    clear, restricted, limit = request.clear_existing, request.is_restricted, request.limit
    asked, found = [], []
    for model in request.models:
        description, problem = _describe(model)
        live = live_space(model)
        fingerprint = fingerprint_of(description) if description else live.fingerprint if live else ""
        each = wanted(
            model,
            fingerprint,
            clear=clear,
            restricted=restricted,
            retry_bad_files=request.retry_bad_files,
            only_failed=request.only_failed,
        )
        asked.append(each)
        found.append(
            ModelPreview(
                model,
                description.dimension if description else encoder_class(model).published_dimension,
                fingerprint_changed=bool(live and live.fingerprint != fingerprint),
                problem=problem,
                download_bytes=download_size(model) if problem else 0,
            )
        )
    scope: Scope = {
        "after": "", "library": request.library_id, "prefix": request.path_prefix, "only": request.only_track,
        "failed": request.failed_with,
    }  # fmt: skip
    spaces = [each.space for each in asked if each.space and not clear]
    with (
        scanned(tell) as scan,
        reuse.foreseen(spaces, scan, whole=not restricted) as known,
        bad_files.foreseen(scan, whole=not restricted) as bad,
    ):
        asked = [replace(each, bad_files=bad, returned_count=not restricted) for each in asked]
        most = 2**31 if limit is None else limit
        until = end_of_slice(asked, scope, most, due_only=limit is not None, tracks=scan)
        for each, result in zip(asked, found, strict=True):
            _count(result, each, partial(count, each, scope=scope, until=until, tracks=scan), known)
            if not restricted and each.space:
                result.gone = _gone(each.space, scan, known)
    for result in found:
        _weigh(result)
    tracks = sum(found[0].tracks.values())
    need = sum(model.database_bytes for model in found), sum(model.index_bytes for model in found)
    return Preview(tracks, found, list(_disks(*need)))


def _describe(model: str) -> tuple[Description | None, str]:
    """Return what the weights make of a model, or why they cannot; of the embedder's, else of this machine's."""
    try:
        try:
            return EmbedderClient().describe(model), ""
        except EmbedderUnavailable:
            return described_here(model), ""
    except NOT_LOADABLE as error:
        return None, str(error)


def _count(result: ModelPreview, asked: Wanted, counted: Callable[[str], Counts], known: str) -> None:
    """Count what would happen to the tracks; ``counted`` counts them by SQL."""
    counts = counted(f"""COALESCE(
        (SELECT k.verdict FROM {known} k WHERE k.track_id = t.id AND k.model = '{asked.model}'
            AND {asked.verdict} <> '{NOT_FAILED}'), {asked.reason})""")
    result.tracks |= {reason: number for reason, (number, _) in counts.items()}
    result.audio_seconds = sum(counts[reason][1] for reason in REASONS if reason in counts)
    result.vectors = sum(result.tracks[reason] for reason in (NEW, FAILED_BEFORE, ANEW))
    if asked.in_place and asked.clear:
        result.vectors -= counted(asked.replaces).get("yes", (0, 0.0))[0]


def _gone(space: EmbeddingSpace, scan: str, known: str) -> int:
    """Return how many vectors of the space belong to tracks that the library does not show, and nobody takes over."""
    with connection.cursor() as cursor:
        cursor.execute(GONE.format(scan=scan, known=known), [space.pk, space.model])
        return int(cursor.fetchone()[0])


def _weigh(result: ModelPreview) -> None:
    """Say how long it takes, and how much room."""
    result.work_seconds = pace.seconds_for({result.model: result.audio_seconds}, _rates(result.model))
    result.database_bytes, result.index_bytes = _bytes(result.model, result.dimension, result.vectors)


def _rates(model: str) -> list[pace.Rates]:
    """Return those of the devices that would work; before any has, what the last job has shown."""
    measured = [device.rates for device in hosts.at_work() if model in device.rates]
    last = ModelProgress.objects.filter(model=model, rate__gt=0).order_by("-job_id").values_list("rate", flat=True)
    return measured or [{model: rate} for rate in last[:1] if rate]


def require_free_disk(request: JobRequest = EVERYTHING) -> None:
    """Raise DiskFull, with the figures, when a job would not fit; cheap, by counts alone."""
    require_room(disk_needs(request))


def require_room(needs: Iterable[DiskNeed]) -> None:
    for disk in needs:
        if not disk.fits:
            raise DiskFull(
                f"the vectors need about {size_text(disk.needed_bytes)} in {disk.path}, where "
                f"{size_text(disk.free_bytes)} are free: make room, or start with fewer models"
            )


def disk_needs(request: JobRequest = EVERYTHING) -> list[DiskNeed]:
    """Return what a job would take of each disk, by counts alone.

    Nothing when the library cannot be read now, and of a job over a part that nobody has counted.
    """
    limit = request.limit
    if replace(request, limit=None).is_restricted:
        return []
    try:
        tracks = open_library().count()
    except LibraryUnavailable:
        return []
    # Vectors in one of these need not be made again.
    status = EmbeddingSpace.Status.BUILDING if request.clear_existing and limit is None else EmbeddingSpace.Status.LIVE
    counted = EmbeddingSpace.objects.filter(status=status).values("pk", "model", "dimension")
    spaces = {row["model"]: row for row in counted.annotate(vectors=Count("embeddings"))}
    database = index = 0
    for model in request.models:
        space = spaces.get(model)
        missing = max(0, tracks - (space["vectors"] if space else 0))
        dimension = space["dimension"] if space else encoder_class(model).published_dimension
        for_database, for_index = _bytes(model, dimension, missing if limit is None else min(limit, missing))
        database, index = database + for_database, index + for_index
    return list(_disks(database, index))


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
