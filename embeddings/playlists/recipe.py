"""What a playlist is made of: a wish for music that can be kept, and granted again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from embeddings.encoders.registry import MODEL_KEYS, TEXT_MODEL
from embeddings.errors import PlaylistRefused
from embeddings.models import Playlist, PlaylistTrack, Track
from embeddings.search.group import same_group
from embeddings.search.path import path
from embeddings.search.query import Query, Seed
from embeddings.search.recommend import recommend
from embeddings.search.text import clean_prompt, text_vector
from navembed_site.errors import NavembedError

MOST_TRACKS = 500
MOST_NAMED = 3
MODE = "playlist"
Role = PlaylistTrack.Role
OF_A_RECIPE = (Role.LIKE, Role.UNLIKE, Role.PATH, Role.CLUSTER)


class Granted(NamedTuple):
    """Tracks, best or first ones first, and what is missing."""

    track_ids: list[str]
    warnings: list[str]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Tracks to sound like, by id, words, or both; or the two ends of a path, or a track whose group on the map it is.

    For the latter two only the first model and the limit count. Strengths lie between 0 and 1. Raises PlaylistRefused.
    """

    like: Sequence[str] = ()
    unlike: Sequence[str] = ()
    path: Sequence[str] = ()
    cluster: Sequence[str] = ()
    text: str = ""
    avoid: str = ""
    favourites: bool = False
    """It sounds like what its user has starred in the music server."""
    fresh: bool = False
    """Made again, it has none of the tracks that it had before."""
    models: Sequence[str] = MODEL_KEYS[:1]
    limit: int = 50
    diversity: float = 0.0
    dislike_strength: float = 1.0

    def __post_init__(self) -> None:
        if not (self.path or self.cluster or self.like or self.text or self.favourites):
            raise PlaylistRefused("Say what the playlist shall sound like: tracks, or words.")
        sounds_like = self.like or self.unlike or self.text or self.avoid or self.favourites or self.fresh
        if self.path and (len(self.path) != 2 or sounds_like or self.cluster):
            raise PlaylistRefused("A path leads from one track to another, and goes with nothing else.")
        if self.cluster and (len(self.cluster) != 1 or sounds_like):
            raise PlaylistRefused("A group on the map is that of one track, and goes with nothing else.")
        if not 1 <= self.limit <= MOST_TRACKS:
            raise PlaylistRefused(f"A playlist of ours has 1 to {MOST_TRACKS} tracks, not {self.limit}.")
        for words in filter(None, (self.text, self.avoid)):
            try:
                clean_prompt(words)
            except ValueError as error:
                raise PlaylistRefused(f"{words!r} cannot be searched for: {error}.") from error

    def granted(self, user: str, seconds: float, *, starred: Sequence[str] = (), held: Sequence[str] = ()) -> Granted:
        """Return the tracks for this user; whatever takes longer than ``seconds`` is left out, as warnings tell.

        ``starred``: the user's favourites. ``held``: what the playlist has now.
        """
        if self.path:
            query = Query(models=self.models, limit=self.limit, mode=MODE, user_id=user)
            start, end = self.path
            found = path(start, end, query, seconds=seconds)
            return Granted([step.track_id for step in found.steps], found.warnings)
        if self.cluster:
            query = Query(models=self.models, limit=self.limit, mode=MODE, user_id=user)
            return Granted(*same_group(self.cluster[0], query))
        if self.text:
            with suppress(NavembedError):  # the answer says why; the text model may have to be loaded first
                text_vector(TEXT_MODEL.audio_model, self.text, wait_seconds=seconds)
        query = Query(
            seeds=[Seed(track_id) for track_id in dict.fromkeys([*self.like, *starred])],
            texts=[self.text] if self.text else [],
            models=self.models,
            limit=self.limit,
            diversity=self.diversity,
            exclude_track_ids=held if self.fresh else (),
            disliked_track_ids=self.unlike,
            dislike_strength=self.dislike_strength,
            negative_prompts=[self.avoid] if self.avoid else [],
            mode=MODE,
            user_id=user,
        )
        answer = recommend(query, seconds=seconds)
        return Granted([each.track_id for each in answer.tracks], answer.warnings)

    def in_words(self) -> str:
        """Return what it asks for, for people."""
        if self.cluster:
            return f"is of the group of {_names(self.cluster)[0]} on the map"
        if self.path:
            return f"leads from {' to '.join(_names(self.path))}"
        wanted = [*_names(self.like), *([f"“{self.text}”"] if self.text else [])]
        wanted += ["your favourites"] if self.favourites else []
        unwanted = [*_names(self.unlike), *([f"“{self.avoid}”"] if self.avoid else [])]
        return f"sounds like {', '.join(wanted)}" + (f"; not like {', '.join(unwanted)}" if unwanted else "")


def keep(playlist: Playlist, recipe: Recipe) -> None:
    """Write the recipe down as that of a playlist."""
    values = asdict(recipe)
    for role in OF_A_RECIPE:
        keep_tracks(playlist, role, values.pop(role))
    playlist.recipe = values
    playlist.save(update_fields=["recipe"])


def keep_tracks(playlist: Playlist, role: PlaylistTrack.Role, track_ids: Sequence[str]) -> None:
    """Write down tracks of a playlist in place of those that it has."""
    playlist.tracks.filter(role=role).delete()
    PlaylistTrack.objects.bulk_create(
        PlaylistTrack(playlist=playlist, role=role, place=place, track_id=track_id)
        for place, track_id in enumerate(track_ids)
    )


def kept(playlist: Playlist) -> Recipe:
    """Return the recipe of a playlist."""
    tracks: dict[str, Any] = {str(role): tracks_of(playlist, role) for role in OF_A_RECIPE}
    return Recipe(**tracks, **playlist.recipe)


def tracks_of(playlist: Playlist, role: PlaylistTrack.Role = Role.HELD) -> list[str]:
    """Return the ids of tracks of a playlist, in order; without another role those that it holds."""
    return list(playlist.tracks.filter(role=role).order_by("place").values_list("track_id", flat=True))


def _names(track_ids: Sequence[str]) -> list[str]:
    known = Track.objects.in_bulk(list(track_ids[:MOST_NAMED]))
    names = [str(known.get(track_id, track_id)) for track_id in track_ids[:MOST_NAMED]]
    more = len(track_ids) - len(names)
    return [*names, *([f"{more} more"] if more else [])]
