"""Whether the music of a chunk is away: then no track is to blame, and nobody asks the embedder for it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from batches.engine import chunks
from batches.engine.chunks import Chunk
from batches.engine.deaths import EmbedderHung
from embeddings.embedder.work import TrackOutcome
from embeddings.errors import AudioFileMissing, DecoderDied, FileUnreachable, LibraryUnavailable
from embeddings.library.fetching import fetched
from embeddings.library.places import places
from embeddings.library.storage import StorageWatch, gone_with_their_folder, why_away
from navembed_site.process.slow_calls import RaiseIfStopped

logger = logging.getLogger(__name__)

MAY_BE_AWAY = {AudioFileMissing.__name__, FileUnreachable.__name__, DecoderDied.__name__}
MOST_SUSPECTS = 8  # files that are looked at when storage may be away


class Music:
    """Where the music lies on this host, and which files of it were away."""

    def __init__(self) -> None:
        self.places = places()
        # Of libraries that cannot be read, some files that were away. Decoders would hang on one after the other.
        self.away: dict[int, list[str]] = {}

    @contextmanager
    def at_hand(self, chunk: Chunk, raise_if_stopped: RaiseIfStopped) -> Iterator[dict[str, str]]:
        """Yield where the chunk's files are on this host, by track id; those of a music server are there meanwhile.

        Raises LibraryUnavailable, and what ``raise_if_stopped`` raises.
        """
        tracks = [claimed.track for claimed in chunk.tracks]
        with fetched(tracks, raise_if_stopped) as files:
            yield {track.pk: files.get(track.pk) or self.places.file(track.path) for track in tracks}

    def look(self, chunk: Chunk, outcomes: Sequence[TrackOutcome], problem: Exception | None) -> set[str]:
        """Return the tracks of the chunk whose files are merely away; none when what failed is its own fault."""
        failed = {outcome.id for outcome in outcomes if may_be_away(outcome)}
        if isinstance(problem, EmbedderHung | LibraryUnavailable):  # perhaps on a share that does not answer
            failed |= {claimed.track.id for claimed in chunk.tracks} - {outcome.id for outcome in outcomes}
        paths: dict[int, dict[str, str]] = {}
        for claimed in chunk.tracks:
            if claimed.track.id in failed:
                paths.setdefault(claimed.track.library_id, {})[claimed.track.id] = claimed.track.path
        for library, suspects in paths.items():
            if reason := why_away(some := [*suspects.values()][:MOST_SUSPECTS]):
                logger.warning("library %d is left to others for now: %s", library, reason)
                self.away[library] = some
        return {track_id for library in paths.keys() & self.away.keys() for track_id in paths[library]}

    def require(self) -> None:
        """Raise LibraryUnavailable while the files that were away still are."""
        for library, paths in [*self.away.items()]:
            if reason := why_away(paths):
                raise LibraryUnavailable(reason)
            del self.away[library]

    def gone(self, chunk: Chunk, outcomes: Sequence[TrackOutcome]) -> set[str]:
        """Return the tracks that would fail now because their file is missing, with its whole folder."""
        missing = {outcome.id for outcome in outcomes if _has_failed_with(outcome, {AudioFileMissing.__name__})}
        given_up = {
            self.places.path_here(claimed.track.path): claimed.track.id
            for claimed in chunk.tracks
            if claimed.track.id in missing and any(map(chunks.is_last_attempt, claimed.results.values()))
        }
        return {given_up[path] for path in gone_with_their_folder([*given_up])}


def watch(chunk: Chunk) -> StorageWatch:
    """Return what looks at the chunk's files while nothing happens."""
    return StorageWatch({claimed.track.id: claimed.track.path for claimed in chunk.tracks})


def may_be_away(outcome: TrackOutcome) -> bool:
    """Whether a track failed in a way in which one whose storage is away fails."""
    return _has_failed_with(outcome, MAY_BE_AWAY)


def _has_failed_with(outcome: TrackOutcome, classes: Collection[str]) -> bool:
    return any(failure.error_class in classes for failure in outcome.failures.values())
