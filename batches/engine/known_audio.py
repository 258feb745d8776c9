"""Tracks whose audio has a vector already: for those that only have other tags or another id, nothing is decoded."""

from __future__ import annotations

from collections.abc import Mapping

from batches.engine import chunks
from batches.engine.in_hand import ChunkInHand
from batches.engine.leases import DeviceLease
from batches.engine.music import watch
from batches.engine.pulse import Pulse
from batches.models import BatchJob, TrackResult
from embeddings.embedder.client import EmbedderClient, Heartbeat
from embeddings.embedder.work import FileHash
from embeddings.models import EmbeddingSpace
from embeddings.spaces.reuse import has_spare_vectors


class KnownAudio:
    """Finds such tracks by the hashes of their audio; one for each time slice."""

    def __init__(self, client: EmbedderClient, lease: DeviceLease) -> None:
        self._client = client
        self._lease = lease
        self._spare: dict[int, bool] = {}  # whether a space has vectors that an unknown file may turn out to have

    def settle(self, job: BatchJob, work: ChunkInHand) -> chunks.Chunk:
        """Settle what is known of a chunk; returns the rest. Raises as ``EmbedderClient.hash`` and ``Pulse.beat``."""
        chunk = work.chunk
        unsure = [claimed.track for claimed in chunk.tracks if self._may_be_known(claimed, chunk.spaces)]
        asked = {work.files[track.id]: track.id for track in unsure}
        if not asked:
            return chunk
        hashes: dict[str, str] = {}
        pulse, storage = Pulse(job, self._lease), watch(chunk)
        for event in self._client.hash(list(asked)):
            match event:
                case FileHash():
                    hashes[asked[event.path]] = event.audio_hash
                case Heartbeat():
                    storage.look(event.idle_seconds)
            pulse.beat()
        return chunks.settle_known(job, self._lease, chunk, hashes)

    def _may_be_known(self, claimed: chunks.ClaimedTrack, spaces: Mapping[str, EmbeddingSpace]) -> bool:
        """Whether reading the file may save decoding it: to hash all new files would read each twice."""
        for model, row in claimed.results.items():
            space = spaces[model]
            if row.reason == TrackResult.Reason.CHANGED:
                return True
            if row.reason != TrackResult.Reason.ANEW and space.pk not in self._spare:
                self._spare[space.pk] = has_spare_vectors(space)
            if self._spare.get(space.pk):
                return True
        return False
