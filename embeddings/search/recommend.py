"""From seeds to a list of tracks. Each step is a file of its own; docs/search.md tells it in words."""

from __future__ import annotations

import itertools
import logging
import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import datetime

import numpy as np
from django.utils import timezone

from embeddings.errors import IndexRefused, IndexUnavailable, OutOfTime
from embeddings.library import PresentTrack
from embeddings.models import EmbeddingSpace, Track
from embeddings.search.calibration import space_calibration
from embeddings.search.comparing import Floats, Probe, as_text, gram, probe
from embeddings.search.deadline import Deadline
from embeddings.search.diversity import chosen, of_artists, one_of_each_recording
from embeddings.search.listener import (
    allowed_libraries,
    excluded_tracks,
    present_tracks,
    seed_recordings,
    tracks_too_long,
    visible_libraries,
)
from embeddings.search.merging import Candidate, merged
from embeddings.search.penalties import after_dislikes, after_negatives, negative_similarities
from embeddings.search.prompts import Reader
from embeddings.search.query import INTERSECTION, Answer, Query, Recommendation, Seed
from embeddings.search.reasons import closest_seed, reason_for, short_label
from embeddings.search.retrieval import (
    FEWEST_CANDIDATES,
    FEWEST_OF_A_GROUP,
    Found,
    Ready,
    candidates,
    compared,
    enough_candidates,
    group_calibrations,
)
from embeddings.search.seeds import MOST_SEEDS, grouped, start_of, track_probes

__all__ = ["Answer", "Query", "Recommendation", "Seed", "recommend"]

logger = logging.getLogger(__name__)

SECONDS = 4.0  # the Go server gives up after five
RANKING_SECONDS = 1.5  # for everything after Milvus
SHORTEST_SEARCH = 0.5
ALIKE = 0.9  # calibrated: seeds that are less alike are not one thing
MOST_DISLIKED = 100  # whose neighbours are pushed down; the disliked tracks themselves always are


def recommend(query: Query, *, now: datetime | None = None, seconds: float = SECONDS) -> Answer:
    """Return the tracks that fit the query best, and warnings about what is missing from the answer.

    Equal queries at the same ``now``, which tells how long ago seeds were played, get equal answers. What does not
    work within ``seconds`` is left out; only our own database's failures are raised.
    """
    return _Search(query, now or timezone.now(), Deadline(seconds)).answer()


class _Search:
    """One query on its way."""

    def __init__(self, query: Query, now: datetime, deadline: Deadline) -> None:
        self.query = query
        self.now = now
        self.deadline = deadline
        self.warnings: list[str] = []
        self.models: dict[str, Ready] = {}
        self.visible: frozenset[int] | None = None
        self.reader = Reader(deadline, self.warnings)
        self.heard = seed_recordings(query)
        self.findings: dict[str, dict[str, Found]] = {}
        self.looked_at: dict[str, set[str]] = defaultdict(set)
        """By model, as the findings; also what has gone from the database."""

    def answer(self) -> Answer:
        query = self.query
        self.visible = visible_libraries(query, self.warnings)
        libraries = allowed_libraries(query, self.visible, self.warnings)
        if libraries is not None and not libraries:
            return self._said([])
        spaces = self._spaces()
        found, tracks = self._found(spaces, excluded_tracks(query, self.warnings), libraries)
        found = after_dislikes(found, tracks, query)
        negative = self._negative(spaces, [each.track_id for each in found])
        found = after_negatives(found, negative, query.negative_penalty)
        found = one_of_each_recording(found, tracks, self.heard)
        if found and (query.diversity > 0 or query.per_artist):
            found = chosen(
                found,
                tracks,
                self._likeness(found),
                limit=query.limit,
                diversity=query.diversity,
                per_artist=query.per_artist,
            )
        return self._said(found[: query.limit], negative)

    def _found(
        self, spaces: Mapping[str, EmbeddingSpace], excluded: AbstractSet[str], libraries: Collection[int] | None
    ) -> tuple[list[Candidate], dict[str, PresentTrack]]:
        """Return the candidates that may be shown.

        What is gone, or too much of an artist, takes places among the candidates: each model is asked for more, as long
        as there is time and it helps.
        """
        query = self.query
        shown, fitting = -1, -1
        for number in itertools.count():
            before = self.deadline.left
            may_be_more = self._find(spaces, excluded, libraries, times=2**number)
            findings = {key: self.findings[key] for key in spaces if key in self.findings}
            found = merged(
                findings, query.merge, priorities=query.priorities, min_agreement=self._agreement(len(findings))
            )
            tracks = self._allowed([each.track_id for each in found], excluded, libraries)
            allowed = [each for each in found if each.track_id in tracks]
            shown_before, shown, fitting_before, fitting = shown, len(allowed), fitting, self._fitting(allowed, tracks)
            is_enough = fitting >= query.limit and (shown == len(found) or shown >= FEWEST_CANDIDATES)
            helps = fitting > fitting_before or shown == shown_before
            is_late = self.deadline.left < 2 * (before - self.deadline.left) + SHORTEST_SEARCH
            if is_enough or not may_be_more or not helps or is_late:
                break
        return allowed, tracks

    def _fitting(self, found: list[Candidate], tracks: Mapping[str, PresentTrack]) -> int:
        """Return how many of them a list may hold, but for its length."""
        kept = one_of_each_recording(found, tracks, self.heard)
        return len(of_artists(kept, tracks, self.query.per_artist or len(kept)))

    def _said(self, found: list[Candidate], negative: Mapping[str, float] | None = None) -> Answer:
        names = self._names({closest_seed(each).track_id for each in found} - {""})  # a text is no track
        tracks = [
            Recommendation(
                each.track_id,
                each.score,
                reason_for(each, names),
                tuple(each.found),
                (negative or {}).get(each.track_id),
            )
            for each in found
        ]
        return Answer(tracks, list(dict.fromkeys(self.warnings)))

    def _names(self, track_ids: Collection[str]) -> dict[str, str]:
        """Return the names of tracks, of those that the user may see."""
        tracks = Track.objects.filter(pk__in=track_ids)
        if self.visible is not None:
            tracks = tracks.filter(library_id__in=self.visible)
        return {track.pk: str(track) for track in tracks}

    # What each model starts from

    def _spaces(self) -> dict[str, EmbeddingSpace]:
        """Return the live spaces of the wanted models, each looked up once: it may change meanwhile."""
        wanted = list(dict.fromkeys(self.query.models))
        live = EmbeddingSpace.objects.filter(model__in=wanted, status=EmbeddingSpace.Status.LIVE)
        spaces = {space.model: space for space in live}
        for model in wanted:
            if model not in spaces:
                self.warnings.append(f"{short_label(model)} does not know any track yet.")
        return {model: spaces[model] for model in wanted if model in spaces}

    def _prepare(self, space: EmbeddingSpace) -> Ready | None:
        """Return what the model starts from; None when no seed is of use to it."""
        query, name = self.query, short_label(space.model)
        try:
            start = start_of(space, query.seeds, self.now, self.deadline)
            seeds = start.probes + self.reader.probes(space, query.texts)
            if start.unknown:
                self.warnings.append(f"{name} does not know {start.unknown} of the tracks to start from.")
            if start.left_out:
                self.warnings.append(f"{name} goes by the {MOST_SEEDS} tracks that count most.")
            if not seeds:
                return None
            disliked = sorted(set(query.disliked_track_ids))[:MOST_DISLIKED]
            probes = track_probes(space, dict.fromkeys(disliked, 1.0), self.deadline)
            calibration = space_calibration(space, self.deadline)
        except OutOfTime as error:
            self._leave_out(space.model, error)
            return None
        alike = calibration.cosine(ALIKE) if query.seeds_are_one else math.inf
        return Ready(space, seeds, grouped(seeds, alike), probes, calibration)

    # What each model finds

    def _find(
        self,
        spaces: Mapping[str, EmbeddingSpace],
        excluded: AbstractSet[str],
        libraries: Collection[int] | None,
        times: int,
    ) -> bool:
        """Add what each model finds beside what it has found, so often as much as is enough; whether there is more.

        What one has found is compared exactly while the next one searches. The longest comparison comes first. One
        search at a time: several beside each other take Lite as long.
        """
        pool = ThreadPoolExecutor(1)
        searches: dict[str, Future[list[str]]] = {}
        for space in sorted(spaces.values(), key=lambda space: -space.dimension):
            if ready := self.models.get(space.model) or self._prepare(space):
                self.models[space.model] = ready
                unwanted = excluded | self.looked_at[space.model]
                searches[space.model] = pool.submit(self._search, ready, unwanted, libraries, times)
        pool.shutdown(wait=False)
        if not searches:
            self.warnings.append("There is nothing to start from: no track or text that was given can be used.")
        may_be_more = False
        for key, search in searches.items():
            ready = self.models[key]
            try:
                measures = group_calibrations(ready.space, ready.seeds, ready.groups, ready.calibration, self.deadline)
                found = search.result(timeout=self.deadline.left)
                self.findings.setdefault(key, {}).update(compared(ready, found, measures, self.deadline))
            except (IndexUnavailable, IndexRefused, OutOfTime, FutureTimeout) as error:
                if key not in self.findings:
                    self._leave_out(key, error)
                continue
            self.looked_at[key].update(found)
            may_be_more |= len(found) >= FEWEST_OF_A_GROUP
        self.models = {key: self.models[key] for key in spaces if key in self.models}
        return may_be_more

    def _leave_out(self, model: str, error: Exception) -> None:
        logger.warning("%s is left out of an answer: %s", model, str(error) or "Milvus is too slow")
        self.warnings.append(f"{short_label(model)} is left out: it does not answer in time. Try again later.")

    def _search(
        self, ready: Ready, excluded: AbstractSet[str], libraries: Collection[int] | None, times: int
    ) -> list[str]:
        others_add = len(self.query.models) > 1 and self.query.merge != INTERSECTION and self.query.min_agreement == 1
        return candidates(
            ready,
            enough_candidates(ready.space, self.query.limit, is_alone=not others_add, times=times),
            exclude=excluded,
            library_ids=libraries,
            seconds=max(SHORTEST_SEARCH, self.deadline.left - RANKING_SECONDS),
        )

    def _agreement(self, models: int) -> int:
        """Return how many models must have found a track: no more than answer."""
        if 0 < models < self.query.min_agreement:
            self.warnings.append(f"Only {models} models answer, so no more than that can agree.")
        return min(self.query.min_agreement, max(1, models))

    def _allowed(
        self, track_ids: Collection[str], excluded: AbstractSet[str], libraries: Collection[int] | None
    ) -> dict[str, PresentTrack]:
        """Return those of the tracks that may be shown now, whatever Milvus thought."""
        unwanted = excluded | tracks_too_long(self.query, track_ids)
        tracks = present_tracks(track_ids, self.warnings, libraries)
        return {track_id: track for track_id, track in tracks.items() if track_id not in unwanted}

    # What is pushed down, and apart

    def _negative(self, spaces: Mapping[str, EmbeddingSpace], track_ids: Collection[str]) -> dict[str, float]:
        """Return how like the tracks are to what is not wanted, by the model that finds them most similar."""
        answer: dict[str, float] = {}
        for key, space in spaces.items():
            probes = self._negative_probes(space)
            if not probes:
                continue
            try:
                calibration = space_calibration(space, self.deadline)
                found = negative_similarities(space, probes, track_ids, calibration, self.deadline)
            except OutOfTime as error:
                logger.warning("What is not wanted does not count for %s: %s", key, error)
                self.warnings.append(f"{short_label(key)} had no time to look for what is not wanted.")
                continue
            for track_id, similarity in found.items():
                answer[track_id] = max(answer.get(track_id, 0.0), similarity)
        return answer

    def _negative_probes(self, space: EmbeddingSpace) -> list[Probe]:
        given = [np.asarray(vector) for vector in self.query.negative_embeddings.get(space.model, ())]
        fitting = [vector for vector in given if vector.shape == (space.dimension,)]
        if len(fitting) < len(given):
            logger.warning("Negative embeddings for %s must have %d numbers", space.model, space.dimension)
            self.warnings.append(f"{short_label(space.model)} does not know some of what is not wanted.")
        probes = [as_text(each) for vector in fitting if (each := probe(vector))]
        return probes + self.reader.probes(space, self.query.negative_prompts)

    def _likeness(self, found: list[Candidate]) -> Floats:
        """Return how alike the candidates are, 0 to 1, by the first model that has a say; 0 where it does not know."""
        model = next(iter(self.models.values()))
        likeness = np.zeros((len(found), len(found)))
        if not self.query.diversity:
            return likeness
        try:
            ids, among = gram(model.space, [each.track_id for each in found], self.deadline)
        except OutOfTime as error:
            logger.warning("Diversity does not count: %s", error)
            self.warnings.append("There was no time to make the list diverse.")
            return likeness
        places = {each.track_id: place for place, each in enumerate(found)}
        known = [places[track_id] for track_id in ids]
        likeness[np.ix_(known, known)] = model.calibration.share(among)
        return likeness
