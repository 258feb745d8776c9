"""Vectors that need not be computed again: the same audio under another id, at another path, with other tags, or
uploaded before it came into the library.

Each space is looked at by itself, so vectors of different fingerprints never meet. A vector changes hands in place:
its row gets the new track, and a row without a vector takes its old place until Milvus has forgotten the old id.
Nothing here reads a file or a vector.
"""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Subquery
from django.utils import timezone

from embeddings.library import new_ids
from embeddings.models import Embedding, EmbeddingSpace, Track, UploadEmbedding
from navembed_site.names import can_be_id
from navembed_site.process.slow_calls import RaiseIfStopped

INDEXED, DELETING, PENDING = Embedding.IndexState.INDEXED, Embedding.IndexState.DELETING, Embedding.IndexState.PENDING
TRACKS = Track._meta.db_table
TRACKS_A_SLICE = 2_000
ROWS_A_STATEMENT = 100
NO_FILE = -1  # size of no file: such a row is up to date with none, and never comes back

# SQLite keeps to the order of a CROSS JOIN. The second half compares two covering indexes and reads no row.
ORPHANS = """
    SELECT e.id FROM embeddings_track o CROSS JOIN embeddings_embedding e
    WHERE NOT o.playable {of_track} AND e.track_id = o.id AND e.space_id = %(space)s AND e.index_state <> 'deleting'
    UNION ALL
    SELECT e.id FROM embeddings_embedding e
    WHERE e.space_id = %(space)s AND NOT EXISTS (SELECT 1 FROM embeddings_track o WHERE o.id = e.track_id)
    AND e.id NOT IN (SELECT d.id FROM embeddings_embedding d WHERE d.space_id = %(space)s
                     AND NOT (d.index_state = 'indexed') AND d.index_state = 'deleting')"""
DELETED = "AND (o.away_since IS NULL OR o.away_since <= %(before)s)"
END_OF_SLICE = """
    SELECT MAX(slice.id) FROM (
        SELECT id FROM embeddings_track WHERE playable = TRUE AND id > %(after)s ORDER BY id LIMIT %(tracks)s
    ) slice"""
# Vectors of gone tracks (o) that tracks without one (t) may take over.
ALIKE = """
    SELECT e.id AS pk, o.id AS old_id, t.id AS new_id, t.size, t.mtime
    FROM {tracks} t CROSS JOIN {tracks} o CROSS JOIN embeddings_embedding e
    WHERE t.playable AND t.id > %(after)s AND t.id <= %(until)s
    AND NOT o.playable AND o.size = t.size AND {condition}
    AND e.space_id = %(space)s AND e.track_id = o.id AND e.index_state <> 'deleting'
    AND NOT EXISTS (SELECT 1 FROM embeddings_embedding own
                    WHERE own.space_id = %(space)s AND own.track_id = t.id)
    ORDER BY t.id, e.id"""
IS_MOVED = """o.mtime = t.mtime AND o.path = t.path AND (o.library_id = t.library_id OR NOT %(same_library)s)
    AND e.size = t.size AND e.mtime = t.mtime"""
# Of such files the audio is hashed when their turn comes; most of them will turn out to be the same.
SOUNDS_LIKE_IT = "(o.path = t.path OR o.duration = t.duration)"

FORESEEN = "navembed_foreseen"
MAKE_FORESEEN = f"""
    CREATE TEMPORARY TABLE {FORESEEN} (
        model text NOT NULL, track_id text NOT NULL, vector_id bigint NOT NULL, verdict text NOT NULL,
        UNIQUE (model, track_id), UNIQUE (model, vector_id)
    )"""
FORESEE = f"""
    INSERT INTO {FORESEEN} SELECT %(model)s, found.new_id, found.pk, %(verdict)s FROM ({{alike}}) found WHERE TRUE
    ON CONFLICT DO NOTHING"""
NEW_ID, SAME_AUDIO = "new id", "same audio"


class Move(NamedTuple):
    """A vector that changes hands: the row's key, whose it was, whose it is, and the file of the latter."""

    pk: int
    old_id: str
    new_id: str
    size: int
    mtime: str


def has_spare_vectors(space: EmbeddingSpace) -> bool:
    """Whether there are vectors of tracks that are gone, or of uploads; only then can unknown files be known ones."""
    return UploadEmbedding.objects.filter(fingerprint=space.fingerprint).exists() or has_orphans(space)


def has_orphans(space: EmbeddingSpace) -> bool:
    """Whether there are vectors of tracks that are gone."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS (SELECT 1 FROM ({ORPHANS.format(of_track='')}) orphans)", {"space": space.pk})
        return bool(cursor.fetchone()[0])


def orphans(space: EmbeddingSpace) -> list[int]:
    """Return the keys of the embeddings whose track is not playable, or has no row."""
    with connection.cursor() as cursor:
        cursor.execute(ORPHANS.format(of_track=""), {"space": space.pk})
        return [pk for (pk,) in cursor.fetchall()]


def deleted(space: EmbeddingSpace, away_before: datetime) -> list[int]:
    """Return the keys of the embeddings whose track is deleted, or away since ``away_before``."""
    before = connection.ops.adapt_datetimefield_value(away_before)
    with connection.cursor() as cursor:
        cursor.execute(ORPHANS.format(of_track=DELETED), {"space": space.pk, "before": before})
        return [pk for (pk,) in cursor.fetchall()]


def mark(pks: Sequence[int], state: Embedding.IndexState, raise_if_stopped: RaiseIfStopped) -> None:
    """Set the index state of these embeddings, in short transactions."""
    for start in range(0, len(pks), TRACKS_A_SLICE):
        with transaction.atomic():
            raise_if_stopped()
            rows = Embedding.objects.filter(pk__in=pks[start : start + TRACKS_A_SLICE])
            rows.update(index_state=state, updated_at=timezone.now())


def take_over_moved(space: EmbeddingSpace, raise_if_stopped: RaiseIfStopped) -> int:
    """Give tracks without a vector that of a gone track with the same path, size and time; returns how many.

    Tracks that came back before their vector was removed keep it; they do not count.
    """
    _keep_returned(space, raise_if_stopped)
    count = 0
    for same_library in (True, False):  # a path may lie in two libraries: first each gets its own
        if has_orphans(space):
            count += _take_over_slices(space, raise_if_stopped, same_library=same_library)
    return count


def reuse_known_audio(
    space: EmbeddingSpace, hashes: Mapping[Track, str], *, raise_if_stopped: RaiseIfStopped = lambda: None
) -> set[str]:
    """Settle the tracks whose audio, by its hash, already has a vector; returns their ids.

    A track whose own vector was made of the same audio is brought up to date (its tags were edited), one without a
    vector takes over that of a gone track, or of an upload. A hash that is empty matches nothing.
    """
    settled: set[str] = set()
    known = [(track, audio_hash) for track, audio_hash in hashes.items() if audio_hash]
    for start in range(0, len(known), TRACKS_A_SLICE):
        with transaction.atomic():
            raise_if_stopped()
            settled |= _reuse_slice(space, dict(known[start : start + TRACKS_A_SLICE]))
    return settled


def _keep_returned(space: EmbeddingSpace, raise_if_stopped: RaiseIfStopped) -> None:
    # The first condition is the partial index's.
    leaving = space.embeddings.exclude(index_state=INDEXED).filter(index_state=DELETING).exclude(size=NO_FILE)
    mark(list(leaving.filter(track__playable=True).values_list("pk", flat=True)), PENDING, raise_if_stopped)


def _take_over_slices(space: EmbeddingSpace, raise_if_stopped: RaiseIfStopped, *, same_library: bool) -> int:
    count = 0
    moved = ALIKE.format(tracks=TRACKS, condition=IS_MOVED)
    parameters = {"space": space.pk, "same_library": same_library}
    for after, until in _slices():
        with transaction.atomic(), connection.cursor() as cursor:
            raise_if_stopped()
            cursor.execute(moved, parameters | {"after": after, "until": until})
            moves = _one_to_one(Move(*row) for row in cursor.fetchall())
            _re_key(space, moves)
        count += len(moves)
    return count


@contextmanager
def foreseen(spaces: Iterable[EmbeddingSpace], tracks: str, *, whole: bool) -> Iterator[str]:
    """Yield the name of a table of what a job would take over: model, track_id, vector_id, verdict.

    ``tracks`` is a table of the library as it is now. What only has a NEW_ID is taken over by jobs over the ``whole``
    library; SAME_AUDIO is a guess: hashes decide when the file's turn comes.
    """
    conditions = [(SOUNDS_LIKE_IT, SAME_AUDIO, False)]
    if whole:
        conditions[:0] = [(IS_MOVED, NEW_ID, True), (IS_MOVED, NEW_ID, False)]
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {FORESEEN}")
        cursor.execute(MAKE_FORESEEN)
        try:
            for space, (condition, verdict, same_library) in itertools.product(spaces, conditions):
                values: dict[str, str | int] = {
                    "after": "", "until": chr(sys.maxunicode), "space": space.pk, "same_library": same_library,
                    "model": space.model, "verdict": verdict,
                }  # fmt: skip
                cursor.execute(FORESEE.format(alike=ALIKE.format(tracks=tracks, condition=condition)), values)
            yield FORESEEN
        finally:
            cursor.execute(f"DROP TABLE IF EXISTS {FORESEEN}")


def _slices() -> Iterator[tuple[str, str]]:
    """Yield the playable tracks as ranges of ids (after, until)."""
    after = ""
    while True:
        with connection.cursor() as cursor:
            cursor.execute(END_OF_SLICE, {"after": after, "tracks": TRACKS_A_SLICE})
            until = cursor.fetchone()[0]
        if until is None:
            return
        yield after, until
        after = until


def _one_to_one(moves: Iterable[Move]) -> list[Move]:
    """Leave out a move whose vector or track an earlier one has taken, or to an id that the index cannot hold."""
    kept: list[Move] = []
    used: set[int] = set()
    served: set[str] = set()
    for move in moves:
        if move.pk not in used and move.new_id not in served and can_be_id(move.new_id):
            used.add(move.pk)
            served.add(move.new_id)
            kept.append(move)
    return kept


def _re_key(space: EmbeddingSpace, moves: Sequence[Move]) -> None:
    """Gives the vectors to other tracks; Milvus follows, for the old ids too, and so does whatever names them."""
    new_ids.follow({move.old_id: move.new_id for move in moves})
    for move in moves:
        _bring_up_to_date(move.pk, size=move.size, mtime=move.mtime, track_id=move.new_id)
    left = [
        Embedding(
            space=space, track_id=m.old_id, windows=0, audio_seconds=0, size=NO_FILE, index_state=DELETING, vector=b""
        )
        for m in moves
    ]
    Embedding.objects.bulk_create(left, batch_size=ROWS_A_STATEMENT)


def _bring_up_to_date(pk: int, **fields: Any) -> None:
    """Change what is known of a vector's file; Milvus is to follow. Four times as fast as ``bulk_update``."""
    Embedding.objects.filter(pk=pk).update(index_state=PENDING, updated_at=timezone.now(), **fields)


def _reuse_slice(space: EmbeddingSpace, hashes: Mapping[Track, str]) -> set[str]:
    own = space.embeddings.filter(track_id__in=[track.pk for track in hashes])
    rows = {track_id: (pk, audio_hash) for track_id, pk, audio_hash in own.values_list("track_id", "pk", "audio_hash")}
    moves = _known_audio(space, {track: hashes[track] for track in hashes if track.pk not in rows})
    _re_key(space, moves)
    settled = {move.new_id for move in moves}
    for track, audio_hash in hashes.items():
        pk, own_hash = rows.get(track.pk, (0, ""))
        if own_hash == audio_hash:  # Milvus holds a name, which may have changed with the tags
            _bring_up_to_date(pk, size=track.size, mtime=track.mtime)
            settled.add(track.pk)
    left = {track: audio_hash for track, audio_hash in hashes.items() if track.pk not in settled}
    return settled | _take_over_uploads(space, left)


def _take_over_uploads(space: EmbeddingSpace, hashes: Mapping[Track, str]) -> set[str]:
    """Give tracks the vectors of uploads of the same audio; several may share one. Returns their ids."""
    uploads = UploadEmbedding.objects.filter(fingerprint=space.fingerprint, audio_hash__in=set(hashes.values()))
    found = {upload.audio_hash: upload for upload in uploads}
    given = [
        Embedding(
            space=space,
            track=track,
            windows=upload.windows,
            audio_seconds=upload.audio_seconds,
            size=track.size,
            mtime=track.mtime,
            audio_hash=audio_hash,
            vector=upload.vector,
        )
        for track, audio_hash in hashes.items()
        if (upload := found.get(audio_hash)) and can_be_id(track.pk)
    ]
    Embedding.objects.bulk_create(
        given,
        batch_size=ROWS_A_STATEMENT,
        update_conflicts=True,  # a track may have had other audio
        unique_fields=["space", "track"],
        update_fields=[
            "windows", "audio_seconds", "size", "mtime", "audio_hash", "index_state", "updated_at", "vector",
        ],
    )  # fmt: skip
    uploads.filter(audio_hash__in=[row.audio_hash for row in given]).delete()
    return {row.track_id for row in given}


def _known_audio(space: EmbeddingSpace, hashes: Mapping[Track, str]) -> list[Move]:
    """Match tracks with vectors of gone tracks by their audio; those of the same library first."""
    playable = Track.objects.filter(pk=OuterRef("track_id"), playable=True)
    library = Subquery(Track.objects.filter(pk=OuterRef("track_id")).values("library_id")[:1])
    gone = space.embeddings.filter(~Exists(playable), audio_hash__in=set(hashes.values())).exclude(index_state=DELETING)
    found = defaultdict(list)
    rows = gone.annotate(library=library).order_by("pk").values_list("audio_hash", "library", "pk", "track_id")
    for audio_hash, of_library, pk, old_id in rows:
        found[audio_hash].append((of_library, pk, old_id))
    return _one_to_one(
        Move(pk, old_id, track.pk, track.size, track.mtime)
        for same_library, (track, audio_hash) in itertools.product((True, False), hashes.items())
        for of_library, pk, old_id in found[audio_hash]
        if of_library == track.library_id or not same_library
    )
