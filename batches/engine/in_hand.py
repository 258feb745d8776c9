"""A chunk that the embedder has. A thread reads the answer, so that the device never waits for the database."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from queue import SimpleQueue

from batches.engine import deaths
from batches.engine.chunks import Chunk, ClaimedTrack, spool_name
from batches.engine.pulse import Interrupted
from embeddings.embedder.client import EmbedderClient, End, Heartbeat
from embeddings.embedder.work import Step, TrackOutcome, TrackRequest, failure_of
from embeddings.errors import IndexRefused
from navembed_site.errors import NavembedError
from navembed_site.names import ID_BYTES, can_be_id

Event = TrackOutcome | Step | Heartbeat | End


class ChunkInHand:
    """A chunk between its claim and its commit."""

    def __init__(self, client: EmbedderClient, chunk: Chunk) -> None:
        self.chunk = chunk
        self.outcomes: list[TrackOutcome] = []
        self.problem: NavembedError | Interrupted | None = None
        """What came up before the embedder was asked."""
        self.at_hand = ExitStack()
        """What holds the chunk's files, until this is closed."""
        self.files: Mapping[str, str] = {}
        """Where they are on this host, by track id."""
        self.pid = client.pid()
        self._client = client
        self._kills = deaths.out_of_memory_kills()
        self._arrived: SimpleQueue[Event | Exception] = SimpleQueue()
        self._closed = threading.Event()

    def ask(self) -> None:
        """Give the chunk to the embedder, which begins with it when it has ended what it was given before."""
        self.outcomes += [_refused(claimed) for claimed in self.chunk.tracks if not can_be_id(claimed.track.id)]
        requests = [self._request(claimed) for claimed in self.chunk.tracks if can_be_id(claimed.track.id)]
        if requests:
            threading.Thread(target=self._read, args=[requests], name="answer", daemon=True).start()
        else:
            self._arrived.put(End())

    def _request(self, claimed: ClaimedTrack) -> TrackRequest:
        return TrackRequest(
            id=claimed.track.id,
            path=self.files[claimed.track.id],
            models=tuple(claimed.results),
            spool_name=spool_name(claimed, self.chunk.spaces),
        )

    def _read(self, requests: Sequence[TrackRequest]) -> None:
        fingerprints = {model: space.fingerprint for model, space in self.chunk.spaces.items()}
        try:
            with closing(self._client.embed(requests, fingerprints)) as events:
                for event in events:
                    if self._closed.is_set():
                        return  # the embedder stops, too
                    self._arrived.put(event)
        except Exception as error:
            self._arrived.put(error)

    def events(self) -> Iterator[Event]:
        """Yield what happens up to the end, and collect the outcomes; raises as ``EmbedderClient.embed`` does."""
        while True:
            event = self._arrived.get()
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Heartbeat) and not self._arrived.empty():
                continue  # it tells how things stood before
            if isinstance(event, TrackOutcome):
                self.outcomes.append(event)
            yield event
            if isinstance(event, End):
                return

    def close(self) -> None:
        """Stops the embedder's work on the chunk, and keeps the outcomes that it has sent."""
        self._closed.set()
        while not self._arrived.empty():
            if isinstance(event := self._arrived.get(), TrackOutcome):
                self.outcomes.append(event)
        self.at_hand.close()

    def is_out_of_memory(self) -> bool:
        """Whether the kernel has killed a process for want of memory meanwhile."""
        return deaths.out_of_memory_kills() > self._kills


def _refused(claimed: ClaimedTrack) -> TrackOutcome:
    reason = f"{claimed.track.id!r} cannot be a track's id: 1 to {ID_BYTES} bytes without control characters"
    failure = failure_of(IndexRefused(reason))
    return TrackOutcome(claimed.track.id, failures=dict.fromkeys(claimed.results, failure))
