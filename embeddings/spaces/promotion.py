"""Whether a build may take the place of what search uses, and what it takes over from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connection
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Length
from django.utils import timezone

from embeddings.encoders.registry import encoder_class
from embeddings.errors import IndexRefused, IndexUnavailable, NoSuchSpace, SwitchRefused
from embeddings.index.projection import search_dimension
from embeddings.index.sync import ensure_live_aliases, vector_store
from embeddings.library.bad_files import bad_for
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.search.neighbours import NotEmbeddedError, embedding_in, nearest_in
from embeddings.spaces.lifecycle import live_space, make_live, space_with
from embeddings.spaces.rows import rows_of, sample, vector_bytes
from embeddings.spaces.vectors import from_bytes
from navembed_site.process.slow_calls import RaiseIfStopped

MOST_LOST = 0.01  # of the playable tracks; beyond it a human must say yes
MOST_ABSENT_BY_HAND = 0.5  # beyond it the build is not finished
NORM_TOLERANCE = 2e-3  # of a unit vector in float16
NORM_SAMPLE = 1_000
SEARCH_SAMPLE = 50
NEIGHBOURS = 10
NEIGHBOURS_LOOKED_AT = 50  # among which those are that two spaces both have
TIE = 1e-4  # copies of the same audio have the same score
SLICE_BYTES = 8 * 2**20

COLUMNS = "track_id, windows, audio_seconds, size, mtime, audio_hash, vector"
COPY = f"""
    INSERT INTO embeddings_embedding (space_id, index_state, updated_at, {COLUMNS})
    SELECT %s, 'pending', %s, {COLUMNS} FROM embeddings_embedding WHERE id IN ({{pks}})
    ON CONFLICT DO NOTHING"""  # noqa: S608  (constants; values are parameters)

TrackIds = QuerySet[Any, str]
"""A query whose rows are ids of tracks: ``….values_list("track_id", flat=True)``."""


@dataclass(frozen=True)
class Examination:
    """What speaks against a build; nothing, when ``problems`` is empty."""

    problems: tuple[str, ...]
    needs_yes: bool
    """Only the share of tracks that would lose their vector stands in the way: a human may say yes."""
    overlap: float | None
    """Share, 0 to 1, that the old and the new neighbours of some tracks have in common; None with nothing old."""

    @property
    def passed(self) -> bool:
        return not self.problems


def examine(
    space: EmbeddingSpace, given_up: TrackIds, *, raise_if_stopped: RaiseIfStopped = lambda: None
) -> Examination:
    """Check a build before search uses it; writes nothing.

    ``given_up``: the tracks whose embedding has failed in the job. Counts and lengths are of all vectors, norms of
    1,000 of them, searches of 50; memory does not grow with the library. ``raise_if_stopped`` is called every
    second or so. Raises IndexUnavailable.
    """
    playable, lacking = Track.objects.filter(playable=True), _lacking(space)
    unexplained = lacking.count() - lacking.filter(pk__in=given_up).count()
    total, lost = playable.count(), _lost(space).count()
    problems = []
    if unexplained:
        problems.append(f"{unexplained:,} of {total:,} playable tracks have neither a vector nor an error")
    raise_if_stopped()
    problems += _damage(space, raise_if_stopped)
    overlap = None
    if not problems:  # else there may be nothing to search
        found, overlap = _search(space, raise_if_stopped)
        problems += found
    is_whole = not problems
    if lost > MOST_LOST * total:
        problems.append(
            f"{lost:,} of {total:,} tracks ({lost / total:.1%}) have a vector now and would lose it, more than "
            f"{MOST_LOST:.0%}"
        )
    return Examination(tuple(problems), is_whole and bool(problems), overlap)


def approve(model: str) -> Examination:
    """Makes a finished build live though more than 1 % of the tracks would lose their vector: a human says yes.

    Every playable track that the build lacks counts as tried. Raises NoSuchSpace, SwitchRefused with what else
    stands in the way, IndexUnavailable.
    """
    space = space_with(model, EmbeddingSpace.Status.BUILDING)
    if space is None:
        raise NoSuchSpace(f"no {model} vectors are being built beside those that search uses")
    lacking, total = _lacking(space), Track.objects.filter(playable=True).count()
    if (absent := lacking.exclude(pk__in=bad_for(space)).count()) > MOST_ABSENT_BY_HAND * total:
        raise SwitchRefused(f"the {model} build lacks {absent:,} of {total:,} tracks: it is not finished")
    found = examine(space, lacking.values_list("pk", flat=True))
    if not found.passed and not found.needs_yes:
        raise SwitchRefused(f"the {model} build cannot be used: {'; '.join(found.problems)}")
    if not make_live([space]):
        raise SwitchRefused(f"the {model} build has been dropped meanwhile")
    return found


def keep_old_vectors(
    space: EmbeddingSpace, given_up: TrackIds, *, raise_if_stopped: RaiseIfStopped = lambda: None
) -> int:
    """Give a build the old vectors of tracks that failed or are away, where these are of the same fingerprint.

    Not where the file has changed since. Returns how many; short transactions, before each of which
    ``raise_if_stopped`` is called, and doing it again adds nothing.
    """
    old = live_space(space.model)
    if old is None or old == space or old.fingerprint != space.fingerprint:
        return 0
    rows = rows_of(old).filter(
        Q(track_id__in=given_up, track__playable=True) | Q(track__playable=False, track__away_since__isnull=False),
        ~Exists(space.embeddings.filter(track_id=OuterRef("track_id"))),
        size=F("track__size"),
        mtime=F("track__mtime"),
    )
    slice_ = max(1, SLICE_BYTES // vector_bytes(space))
    kept = last = 0
    while pks := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:slice_]):
        raise_if_stopped()
        kept += _copy(space, pks)
        last = pks[-1]
    return kept


def point_aliases() -> str:
    """Points Milvus's aliases at what is live now; returns what stood in the way, for a human."""
    try:
        problem = ensure_live_aliases()
        existing = vector_store().collections()
    except IndexUnavailable as error:
        return f"Milvus could not be told yet ({error}); the next job does it"
    if problem:
        return problem
    live = EmbeddingSpace.objects.filter(status=EmbeddingSpace.Status.LIVE)
    if any(space.collection not in existing for space in live):
        return "Milvus does not have all vectors; run rebuild_index"
    return ""


def size_of(space: EmbeddingSpace, vectors: int) -> int:
    """Return about how many bytes so many vectors take in database and search index together."""
    return vectors * (vector_bytes(space) + 4 * search_dimension(encoder_class(space.model), space.dimension))


def _lacking(space: EmbeddingSpace) -> QuerySet[Track]:
    """Return the playable tracks without a vector."""
    return Track.objects.filter(~Exists(rows_of(space).filter(track_id=OuterRef("pk"))), playable=True)


def _lost(space: EmbeddingSpace) -> QuerySet[Track]:
    """Return the playable tracks that would have a vector no more: what the live space lacks, too, is no loss."""
    live = live_space(space.model)
    if live is None:
        return Track.objects.none()
    return _lacking(space).filter(Exists(rows_of(live).filter(track_id=OuterRef("pk"))))


def _copy(space: EmbeddingSpace, pks: Sequence[int]) -> int:
    now = connection.ops.adapt_datetimefield_value(timezone.now())  # as Django writes it: it is compared later
    with connection.cursor() as cursor:
        cursor.execute(COPY.format(pks=", ".join(map(str, pks))), [space.pk, now])
        return int(cursor.rowcount)


def _damage(space: EmbeddingSpace, raise_if_stopped: RaiseIfStopped) -> list[str]:
    """Say what is wrong with the vectors themselves."""
    rows = rows_of(space)
    problems = []
    if not rows.exists():
        problems.append("it holds no vectors")
    if short := rows.alias(bytes=Length("vector")).exclude(bytes=vector_bytes(space)).count():
        problems.append(f"{short:,} vectors have not {space.dimension:,} numbers")
    if waiting := space.embeddings.exclude(index_state=Embedding.IndexState.INDEXED).count():
        problems.append(f"{waiting:,} vectors are not in Milvus yet")
    raise_if_stopped()
    pks = list(sample(space, NORM_SAMPLE).values_list("pk", flat=True))
    dtype = encoder_class(space.model).stored_dtype
    bad = 0
    for row in space.embeddings.filter(pk__in=pks).values_list("vector", flat=True).iterator(chunk_size=50):
        bad += not _is_unit(row, dtype, space.dimension)
    if bad:
        problems.append(f"{bad:,} of {len(pks):,} vectors that were looked at are not of unit length")
    raise_if_stopped()
    return problems


def _is_unit(data: bytes | memoryview, dtype: str, dimension: int) -> bool:
    try:
        length = float(np.linalg.norm(from_bytes(data, dtype, dimension)))
    except IndexRefused:
        return False
    return abs(length - 1) <= NORM_TOLERANCE


def _search(space: EmbeddingSpace, raise_if_stopped: RaiseIfStopped) -> tuple[list[str], float | None]:
    """Search for some tracks by their own vectors; returns what is wrong, and the overlap with the live space."""
    old = live_space(space.model)
    if old and (old == space or not vector_store().exists(old.collection)):
        old = None
    track_ids = list(sample(space, SEARCH_SAMPLE).values_list("track_id", flat=True))
    lost, overlaps = 0, []
    for track_id in track_ids:
        hits = dict(nearest_in(space, embedding_in(space, track_id), limit=NEIGHBOURS + 1, fresh=True))
        best = max(hits.values(), default=0.0)
        # With more copies of its audio than are asked for, it need not be among them.
        is_crowded = len(hits) > NEIGHBOURS and min(hits.values()) >= 1 - TIE
        lost += hits.get(track_id, -1.0) < best - TIE and not is_crowded
        if old and (overlap := _overlap(space, old, track_id)) is not None:
            overlaps.append(overlap)
        raise_if_stopped()
    problems = [f"{lost} of {len(track_ids)} tracks do not find themselves first in Milvus"] if lost else []
    return problems, float(np.mean(overlaps)) if overlaps else None


def _overlap(space: EmbeddingSpace, old: EmbeddingSpace, track_id: str) -> float | None:
    """Return the share of a track's old neighbours that are its neighbours still, of the tracks that both spaces have.

    None when there are none.
    """
    try:
        before = _neighbours(old, track_id, also_in=space)
    except NotEmbeddedError:
        return None
    after = _neighbours(space, track_id, also_in=old)
    size = min(len(before), len(after))
    return len(set(before[:size]).intersection(after[:size])) / size if size else None


def _neighbours(space: EmbeddingSpace, track_id: str, *, also_in: EmbeddingSpace) -> list[str]:
    hits = nearest_in(space, embedding_in(space, track_id), limit=NEIGHBOURS_LOOKED_AT, exclude=[track_id])
    near = [hit.track_id for hit in hits]
    in_both = set(rows_of(also_in).filter(track_id__in=near).values_list("track_id", flat=True))
    return [each for each in near if each in in_both][:NEIGHBOURS]
