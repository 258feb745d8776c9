"""Files that a model could not embed: remembered, so that nobody tries them again until they change."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from embeddings.embedder.work import Failure
from embeddings.errors import DecoderDied
from embeddings.models import BadFile, EmbeddingSpace, Track
from navembed_site.process.slow_calls import RaiseIfStopped

# Few rows are bad and gone; the library is read once for all of them, and not at all without any.
MOVED = """
    SELECT b.id, b.model, t.id
    FROM embeddings_badfile b JOIN {tracks} o ON o.id = b.track_id AND NOT o.playable
    JOIN {tracks} t ON t.playable AND t.size = o.size AND t.mtime = o.mtime AND t.path = o.path
    WHERE b.size = o.size AND b.mtime = o.mtime
    AND NOT EXISTS (SELECT 1 FROM embeddings_badfile own WHERE own.track_id = t.id AND own.model = b.model)
    ORDER BY t.id, b.id"""
BAD_FILES = BadFile._meta.db_table
FORESEEN = "navembed_bad_files"
MAKE_FORESEEN = f"""
    CREATE TEMPORARY TABLE {FORESEEN} AS SELECT id, track_id, model, size, mtime, fingerprint FROM {BAD_FILES}"""


@dataclass(frozen=True)
class Bad:
    """A file that could not be embedded for this space."""

    track: Track
    space: EmbeddingSpace
    failure: Failure


def is_the_files_fault(failure: Failure) -> bool:
    """Whether the same file will fail again: it was tried to the end and is no file that is merely away."""
    return failure.permanent or failure.error_class == DecoderDied.__name__


def remember(files: Iterable[Bad]) -> None:
    """Write down what is bad; one that was acknowledged and failed as another file counts again."""
    rows = [
        BadFile(
            track=bad.track,
            model=bad.space.model,
            size=bad.track.size,
            mtime=bad.track.mtime,
            # What cannot be decoded is bad for any weights.
            fingerprint="" if bad.failure.stage == "decode" else bad.space.fingerprint,
            error_class=bad.failure.error_class,
            error_message=bad.failure.message,
            failed_at=timezone.now(),
        )
        for bad in files
    ]
    BadFile.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["track", "model"],
        update_fields=["size", "mtime", "fingerprint", "error_class", "error_message", "failed_at", "ignored"],
    )


def forget(embedded: Mapping[str, Collection[str]]) -> None:
    """Forget files that have a vector now: models by track."""
    known = BadFile.objects.filter(track__in=list(embedded)).values_list("pk", "track_id", "model")
    if good := [pk for pk, track_id, model in known if model in embedded[track_id]]:
        BadFile.objects.filter(pk__in=good).delete()


def bad_files() -> QuerySet[BadFile]:
    """Return what is bad now: files that are in the library and have not changed since they failed."""
    unchanged = BadFile.objects.filter(track__playable=True, size=F("track__size"), mtime=F("track__mtime"))
    return unchanged.select_related("track").order_by("track__path", "model")


def named(names: Collection[str]) -> QuerySet[BadFile]:
    """Return the bad files of these paths, or ids of tracks."""
    return bad_files().filter(Q(track__path__in=names) | Q(track__in=names))


def ignore(bad: QuerySet[BadFile], *, ignored: bool = True) -> int:
    """Acknowledge these bad files, or no more; returns how many files."""
    chosen = bad.order_by()
    files = chosen.values("track").distinct().count()
    BadFile.objects.filter(pk__in=chosen.values("pk")).update(ignored=ignored)
    return files


def bad_for(space: EmbeddingSpace) -> QuerySet[BadFile, str]:
    """Return the ids of the tracks that the space must do without."""
    bad = bad_files().filter(model=space.model, fingerprint__in=["", space.fingerprint])
    return bad.order_by().values_list("track_id", flat=True)


def follow_new_ids(raise_if_stopped: RaiseIfStopped) -> int:
    """Carries bad files over to the new ids of their tracks; returns how many."""
    if not BadFile.objects.filter(track__playable=False).exists():
        return 0
    with transaction.atomic():
        raise_if_stopped()
        moves = moved()
        for pk, (_, track_id) in moves.items():
            BadFile.objects.filter(pk=pk).update(track=track_id)
    return len(moves)


@contextmanager
def foreseen(tracks: str, *, whole: bool) -> Iterator[str]:
    """Yield the name of a table of bad files as a job over the ``whole`` library would leave it, or one over a part.

    ``tracks`` is a table of the library as it is now.
    """
    moves = moved(tracks) if whole else {}
    if not moves:
        yield BAD_FILES
        return
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {FORESEEN}")
        cursor.execute(MAKE_FORESEEN)
        try:
            values = [(track_id, pk) for pk, (_, track_id) in moves.items()]
            cursor.executemany(f"UPDATE {FORESEEN} SET track_id = %s WHERE id = %s", values)
            cursor.execute(f"CREATE INDEX {FORESEEN}_track ON {FORESEEN} (track_id)")
            yield FORESEEN
        finally:
            cursor.execute(f"DROP TABLE IF EXISTS {FORESEEN}")


def moved(tracks: str = Track._meta.db_table) -> dict[int, tuple[str, str]]:
    """Return the bad files whose track is gone and whose file has a new id: model and new id by key."""
    with connection.cursor() as cursor:
        cursor.execute(MOVED.format(tracks=tracks))
        found: dict[tuple[str, str], int] = {}
        for pk, model, track_id in cursor.fetchall():
            found.setdefault((model, track_id), pk)
    return {pk: file for file, pk in found.items()}
