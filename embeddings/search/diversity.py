"""Which of the candidates are taken, in what order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from embeddings.library import PresentTrack
from embeddings.search.comparing import Floats
from embeddings.search.merging import Candidate
from embeddings.search.seeds import DIGITS

UNKNOWN_ARTIST = "[unknown artist]"  # Navidrome's name for none


def most_of_an_artist(limit: int, diversity: float) -> int:
    """Return how many tracks of one artist a list of ``limit`` may hold: all of it at 0, one at 1."""
    return math.ceil(round(math.pow(limit, 1 - diversity), DIGITS))


def best_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return them by score; those of equal score by id."""
    return sorted(candidates, key=lambda each: (-round(each.score, DIGITS), each.track_id))


def recording_of(title: str, artist: str) -> tuple[str, str] | None:
    """Return what files of the same recording share; None without title or artist: it is one of its own."""
    title, artist = _plain(title), _plain(artist)
    return (title, artist) if title and artist and artist != UNKNOWN_ARTIST else None


def one_of_each_recording(
    candidates: Sequence[Candidate],
    tracks: Mapping[str, PresentTrack],
    heard: Collection[tuple[str, str] | None] = (),
) -> list[Candidate]:
    """Return the candidates, best first, without further files of the same recording, or of one that was heard."""
    seen = set(heard)
    kept = []
    for candidate in best_first(candidates):
        track = tracks[candidate.track_id]
        recording = recording_of(track.title, track.artist)
        if recording and recording in seen:
            continue
        seen.add(recording)
        kept.append(candidate)
    return kept


def of_artists(candidates: Sequence[Candidate], tracks: Mapping[str, PresentTrack], most: int) -> list[Candidate]:
    """Return the candidates without those that come after ``most`` of the same artist."""
    taken: Counter[str] = Counter()
    kept = []
    for candidate in candidates:
        artist = artist_of(tracks[candidate.track_id])
        taken[artist] += 1
        if not artist or taken[artist] <= most:
            kept.append(candidate)
    return kept


def chosen(
    candidates: Sequence[Candidate],
    tracks: Mapping[str, PresentTrack],
    likeness: Floats,
    *,
    limit: int,
    diversity: float,
    per_artist: int = 0,
) -> list[Candidate]:
    """Return at most ``limit`` of the candidates by maximal marginal relevance, and not too many of an artist.

    They come best first. Each in turn has the highest (1 − diversity) · score − diversity · likeness to the most
    similar one chosen so far (Carbonell & Goldstein, SIGIR 1998). ``likeness`` [candidates, candidates] is 0 to 1.
    What a score has lost by what is not wanted is added to the likeness: else it would count less the more diverse
    the list.
    """
    scores = np.array([each.score for each in candidates])
    lost = np.array([each.lost for each in candidates])
    most = min(most_of_an_artist(limit, diversity), per_artist or limit)
    taken: Counter[str] = Counter()
    closest = np.zeros(len(candidates))
    is_left = np.ones(len(candidates), bool)
    picked: list[Candidate] = []
    while is_left.any() and len(picked) < limit:
        values = np.round((1 - diversity) * scores - diversity * (closest + lost), DIGITS)
        place = int(np.where(is_left, values, -np.inf).argmax())  # the first of equals is the better one
        is_left[place] = False
        artist = artist_of(tracks[candidates[place].track_id])
        if artist and taken[artist] >= most:
            continue
        taken[artist] += 1
        picked.append(candidates[place])
        closest = np.maximum(closest, likeness[place])
    return picked


def artist_of(track: PresentTrack) -> str:
    """Return what tells artists apart; nothing for nobody in particular."""
    name = _plain(track.artist)
    return "" if name in ("", UNKNOWN_ARTIST) else track.artist_id or name


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
