"""Decides for every track whether a model has to embed it, and why; jobs and dry runs both ask here.

It is SQL, because a library has a million tracks. ``t`` stands for the table of tracks: our own, or what a dry run has
read from the library. All that is put into it are our own constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection

from embeddings.library.bad_files import BAD_FILES
from embeddings.models import EmbeddingSpace
from embeddings.spaces.lifecycle import live_space, space_to_use
from embeddings.spaces.reuse import NO_FILE

UP_TO_DATE = "up to date"  # there is a vector of the file as it is
BAD_FILE = "bad file"  # the file as it is could not be embedded before
NOT_FAILED = "not failed"  # nor asked for, where only what has failed is
DUE = "due"
NEW, CHANGED, FAILED_BEFORE, ANEW = "new", "changed", "failed before", "anew"
REASONS = (NEW, CHANGED, FAILED_BEFORE, ANEW)
"""Why a track is due."""
TRACKS = "embeddings_track"

# A part of the library; ``after`` and ``until`` are ids between which it lies.
IN_SCOPE = """t.playable AND t.id > %(after)s
    AND (CAST(%(library)s AS INTEGER) IS NULL OR t.library_id = %(library)s)
    AND SUBSTR(t.path, 1, LENGTH(%(prefix)s)) = %(prefix)s
    AND (%(only)s = '' OR t.id = %(only)s)"""
COUNT = f"""
    SELECT {{verdict}} AS verdict, COUNT(*), SUM(t.duration) FROM {{tracks}} t {{vectors}}
    WHERE {IN_SCOPE} AND t.id <= %(until)s GROUP BY 1"""
SLICE = f"""
    SELECT MAX(slice.id) FROM (
        SELECT t.id FROM {{tracks}} t {{vectors}} WHERE {IN_SCOPE} AND ({{condition}}) ORDER BY t.id LIMIT %(most)s
    ) slice"""

Scope = dict[str, str | int | None]
"""Parameters of ``IN_SCOPE``, and ``failed``: how messages begin of what is asked for."""
Counts = dict[str, tuple[int, float]]
"""Tracks, and seconds of audio, by verdict."""


@dataclass(frozen=True)
class Wanted:
    """What a job wants of one model, and where its vectors go."""

    model: str
    fingerprint: str
    space: EmbeddingSpace | None
    """None while there is none yet: a dry run makes none."""
    clear: bool
    """Everything anew: beside the live vectors, or in their place when only a part of the library is asked for."""
    in_place: bool
    retry_bad_files: bool
    bad_files: str = BAD_FILES
    """The table of bad files."""
    only_failed: bool = False
    returned_count: bool = False
    """Whether vectors count that were to be deleted with their track, which is back: a job keeps them at its start."""

    @property
    def vectors(self) -> str:
        """SQL: joins ``t`` with the vectors of the files as they are; the expressions below need it."""
        if not self._looks_at_vectors:
            return ""
        # Compared within the join, so that an index answers: else a page is read for each vector.
        return f"""LEFT JOIN embeddings_embedding {self._e} ON {self._of_track(self._e)}
            AND {self._e}.size = t.size AND {self._e}.mtime = t.mtime"""

    @property
    def verdict(self) -> str:
        """SQL: UP_TO_DATE, BAD_FILE, NOT_FAILED or DUE."""
        return self._verdict(f"'{DUE}'")

    @property
    def reason(self) -> str:
        """SQL: UP_TO_DATE, BAD_FILE, NOT_FAILED or why the track is due; asks more than ``verdict``."""
        return self._verdict(f"""CASE WHEN {_literal(self.clear)} THEN '{ANEW}'
            WHEN {self._has_any_vector} THEN '{CHANGED}'
            WHEN EXISTS (SELECT 1 FROM batches_trackresult r WHERE r.track_id = t.id AND r.model = '{self.model}'
                         AND r.status = 'failed') THEN '{FAILED_BEFORE}'
            ELSE '{NEW}' END""")

    @property
    def replaces(self) -> str:
        """SQL: 'yes' where the space holds a vector of the track, of whatever file; else 'no'."""
        return f"CASE WHEN {self._has_any_vector} THEN 'yes' ELSE 'no' END"

    def _verdict(self, due: str) -> str:
        up_to_date = f"{self._e}.id IS NOT NULL" if self._looks_at_vectors else _literal(False)
        return f"""CASE WHEN {up_to_date} THEN '{UP_TO_DATE}' WHEN {self._is_bad} THEN '{BAD_FILE}'
            WHEN {_literal(self.only_failed)} AND NOT ({self._has_failed}) THEN '{NOT_FAILED}' ELSE {due} END"""

    @property
    def _e(self) -> str:
        return f"e_{self.model}"

    @property
    def _looks_at_vectors(self) -> bool:
        return self.space is not None and not (self.clear and self.in_place)

    def _of_track(self, e: str) -> str:
        return f"""{e}.space_id = {self.space.pk if self.space else 0} AND {e}.track_id = t.id
            AND ({e}.index_state <> 'deleting' OR {_literal(self.returned_count)} AND {e}.size <> {NO_FILE})"""

    @property
    def _has_any_vector(self) -> str:
        if self.space is None:
            return _literal(False)
        return f"EXISTS (SELECT 1 FROM embeddings_embedding o WHERE {self._of_track('o')})"

    @property
    def _is_bad(self) -> str:
        if self.retry_bad_files:
            return _literal(False)
        return f"EXISTS ({self._bad} AND b.fingerprint IN ('', '{self.fingerprint}'))"

    @property
    def _bad(self) -> str:
        return f"""SELECT 1 FROM {self.bad_files} b
            WHERE b.track_id = t.id AND b.model = '{self.model}' AND b.size = t.size AND b.mtime = t.mtime"""

    @property
    def _has_failed(self) -> str:
        """SQL: what ``batches.selectors.problems`` shows: a bad file, else a failure that may pass."""
        if not self.only_failed:
            return _literal(True)
        begins_so = "SUBSTR({0}.error_message, 1, LENGTH(%(failed)s)) = %(failed)s"
        return f"""EXISTS ({self._bad} AND NOT b.ignored AND {begins_so.format("b")})
            OR NOT EXISTS ({self._bad}) AND EXISTS (SELECT 1 FROM batches_trackresult r WHERE r.track_id = t.id
                AND r.model = '{self.model}' AND r.status = 'failed' AND {begins_so.format("r")})"""


def wanted(
    model: str, fingerprint: str, *, clear: bool, restricted: bool, retry_bad_files: bool, only_failed: bool
) -> Wanted:
    """Return what a job wants of ``model`` with weights of this fingerprint, and the space that it goes on in."""
    live = live_space(model)
    in_place = restricted and live is not None
    space = live if in_place else space_to_use(model, fingerprint, anew=clear)
    return Wanted(model, fingerprint, space, clear, in_place, retry_bad_files, only_failed=only_failed)


def _literal(value: bool) -> str:
    return "TRUE" if value else "FALSE"


def end_of_slice(asked: Sequence[Wanted], scope: Scope, most: int, *, due_only: bool, tracks: str = TRACKS) -> str:
    """Return the id of the last of ``most`` tracks in scope; empty when there are none.

    ``due_only``: count only tracks that some model has to embed.
    """
    condition = " OR ".join(f"{each.verdict} = '{DUE}'" for each in asked) if due_only else "TRUE"
    vectors = " ".join(each.vectors for each in asked) if due_only else ""
    with connection.cursor() as cursor:
        cursor.execute(
            SLICE.format(tracks=tracks, vectors=vectors, condition=condition), scope | {"most": max(0, most)}
        )
        return cursor.fetchone()[0] or ""


def count(asked: Wanted, verdict: str, scope: Scope, until: str, *, tracks: str = TRACKS) -> Counts:
    """Count the tracks in scope by ``verdict``, which is SQL."""
    with connection.cursor() as cursor:
        cursor.execute(COUNT.format(tracks=tracks, vectors=asked.vectors, verdict=verdict), scope | {"until": until})
        return {found: (number, seconds or 0.0) for found, number, seconds in cursor.fetchall()}
