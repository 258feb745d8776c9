"""What happens to a playlist of ours: it is kept, made, brought to the server, and made again when it is due."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from embeddings.errors import PlaylistRefused
from embeddings.models import Listener, Playlist
from embeddings.playlists import recipe as recipes
from embeddings.playlists.recipe import Granted, Recipe, Role, tracks_of
from embeddings.playlists.server import MARK, put, starred
from embeddings.subsonic import subsonic
from navembed_site.errors import NavembedError
from navembed_site.names import clean_text

logger = logging.getLogger(__name__)

PERIODS = {Playlist.Schedule.DAILY: timedelta(days=1), Playlist.Schedule.WEEKLY: timedelta(days=7)}
AGAIN = timedelta(hours=1)  # after one that could not be made
SECONDS = 20.0  # for the tracks of one
LONGEST_NAME = 200
MOST_STARRED = 200  # of which a playlist is made


def save(name: str, recipe: Recipe, *, user: str = "", schedule: str = Playlist.Schedule.ONCE) -> Playlist:
    """Keep a playlist's recipe, under a name that is new to the user or that of an earlier one; ``make`` comes next.

    Without ``user`` it is that of the account in the settings. Raises PlaylistRefused.
    """
    name, user = clean_text(name).strip(), _user(user)
    if not 0 < len(name) <= LONGEST_NAME or len(user) > LONGEST_NAME:
        raise PlaylistRefused(f"The names of a playlist and of its user have 1 to {LONGEST_NAME} characters.")
    require_server(user)
    due = timezone.now() + AGAIN if schedule in PERIODS else None  # who saves it makes it at once
    with transaction.atomic():
        fields: dict[str, Any] = {"recipe": {}, "schedule": schedule, "due_at": due, "problem": ""}
        playlist, _made = Playlist.objects.update_or_create(name=name, user=user, defaults=fields)
        recipes.keep(playlist, recipe)
    return playlist


def require_server(user: str) -> None:
    """Raise PlaylistRefused when nobody could bring a playlist to this user."""
    if settings.LIBRARY == "folder":
        raise PlaylistRefused(
            "NAVEMBED_LIBRARY is folder: no music server knows the tracks by our ids. "
            "`manage.py playlist … --m3u FILE` writes a file."
        )
    if not user:
        raise PlaylistRefused(
            "Say whose the playlist shall be: set NAVEMBED_SUBSONIC_URL, NAVEMBED_SUBSONIC_USER and "
            "NAVEMBED_SUBSONIC_PASSWORD, or name a user whom the plugin in Navidrome serves."
        )


def is_ours_to_bring(playlist: Playlist) -> bool:
    """Whether we sign in as its user; the playlists of others wait for the plugin."""
    return bool(settings.SUBSONIC_URL) and playlist.user == settings.SUBSONIC_USER


def make(playlist: Playlist, *, seconds: float = SECONDS) -> list[str]:
    """Choose the tracks and bring them to the server; return warnings about what is missing.

    What goes wrong is kept as the playlist's problem, and what it holds in the server stays as it is. Raises
    PlaylistRefused, ServerUnavailable, ServerRefused.
    """
    try:
        warnings = _choose(playlist, seconds)
        if is_ours_to_bring(playlist):
            with subsonic() as server:
                server_id = put(server, playlist.server_id, playlist.name, comment_of(playlist), tracks_of(playlist))
            delivered(playlist, server_id)
    except NavembedError as error:
        failed(playlist, str(error))
        raise
    period = PERIODS.get(Playlist.Schedule(playlist.schedule))
    _update(playlist, due_at=timezone.now() + period if period else None)
    return warnings


def tracks_for(recipe: Recipe, user: str, seconds: float, *, held: Sequence[str] = ()) -> Granted:
    """Return the tracks of a recipe for a user, by whose favourites it may go; ``held`` is what there is now.

    Raises PlaylistRefused, ServerUnavailable, ServerRefused.
    """
    favourites: list[str] = []
    if recipe.favourites:
        favourites = _favourites(_user(user))
        if not favourites:
            raise PlaylistRefused(f"{_user(user)} has starred nothing in the music server yet.")
    return recipe.granted(user, seconds, starred=favourites, held=held)


def _favourites(user: str) -> list[str]:
    if settings.SUBSONIC_URL and user == settings.SUBSONIC_USER:
        with subsonic() as server:
            return starred(server, MOST_STARRED)
    if listener := Listener.objects.filter(user=user).first():
        return list(listener.starred)
    raise PlaylistRefused(
        f"What {user or 'somebody'} has starred is not known yet: navembed's plugin for playlists tells it within "
        "minutes, if Navidrome lets it act for that user."
    )


def _choose(playlist: Playlist, seconds: float) -> list[str]:
    found = tracks_for(recipes.kept(playlist), playlist.user, seconds, held=tracks_of(playlist))
    if not found.track_ids:
        raise PlaylistRefused(" ".join(["No track was found for the playlist.", *found.warnings]))
    with transaction.atomic():
        recipes.keep_tracks(playlist, Role.HELD, found.track_ids)
        _update(playlist, made_at=timezone.now(), pending=True, problem="")
    return found.warnings


def comment_of(playlist: Playlist) -> str:
    """Return how it came about, for its comment in the server."""
    made = timezone.localtime(playlist.made_at)
    return f"{MARK}{recipes.kept(playlist).in_words()}. {made:%Y-%m-%d %H:%M}"


def delivered(playlist: Playlist, server_id: str, made_at: datetime | None = None) -> None:
    """Note that the server has the tracks that were chosen then; others, chosen meanwhile, stay pending."""
    _update(playlist, server_id=server_id)
    chosen = Playlist.objects.filter(pk=playlist.pk, made_at=made_at or playlist.made_at)
    if chosen.update(pending=False, problem=""):
        playlist.pending, playlist.problem = False, ""


def failed(playlist: Playlist, problem: str) -> None:
    """Note why the server does not have them."""
    logger.warning("playlist %s: %s", playlist, problem)
    _update(playlist, problem=problem)


def forget(name: str, user: str = "") -> None:
    """Never make a playlist again; what the server has of it stays. Raises PlaylistRefused when there is none."""
    user = _user(user)
    count, _ = Playlist.objects.filter(name=name, user=user).delete()
    if not count:
        raise PlaylistRefused(f"{user or 'Nobody'} has no playlist {name} of ours.")


def told(playlist: Playlist) -> str:
    """Return what has become of a playlist that was just made, for people."""
    count = len(tracks_of(playlist))
    if playlist.pending:
        return f"{playlist} has {count} tracks; the plugin in Navidrome brings it to {playlist.user}."
    return f"{playlist} has {count} tracks, and is in {playlist.user}'s playlists."


def pending() -> QuerySet[Playlist]:
    """Return the playlists that wait for somebody who can bring them to their users: the plugin.

    Those that could not be brought come last: they hold up nobody.
    """
    rows = Playlist.objects.filter(pending=True).order_by("problem", "pk")
    return rows.exclude(user=settings.SUBSONIC_USER) if settings.SUBSONIC_URL else rows


def listeners() -> dict[str, bool]:
    """Return the users of whom the plugin should tell, and whether also what they have starred: once an hour."""
    told = Listener.objects.filter(told_at__gt=timezone.now() - AGAIN).values("user")
    rows = Playlist.objects.exclude(user__in=told)
    rows = rows.exclude(user=settings.SUBSONIC_USER) if settings.SUBSONIC_URL else rows
    found: dict[str, bool] = {}
    for user, recipe in rows.order_by("user", "pk").values_list("user", "recipe"):
        found[user] = found.get(user, False) or bool(recipe.get("favourites"))
    return found


def tell_of(user: str, libraries: Sequence[int], starred: Sequence[str]) -> None:
    """Keep what the plugin tells of a user; playlists that waited for it are due."""
    told = {"libraries": list(libraries), "starred": list(starred)[:MOST_STARRED]}
    _listener, is_new = Listener.objects.update_or_create(user=user, defaults=told)
    if is_new:
        Playlist.objects.filter(user=user, made_at=None).update(due_at=timezone.now())


def make_due(seconds: float, now: datetime | None = None) -> int:
    """Make playlists that are due, for about so long; return how many. One that fails is tried again in an hour."""
    until, made = time.monotonic() + seconds, 0
    for playlist in _due(now or timezone.now()):
        if time.monotonic() > until or not _claim(playlist):
            continue
        with suppress(NavembedError):  # it is logged, and shown with the playlist
            make(playlist)
            made += 1
    return made


def _due(now: datetime) -> list[Playlist]:
    # Further ahead than a period: the clock was set back.
    due = Q(due_at__lte=now) | Q(due_at__gt=now + max(PERIODS.values()))
    return list(Playlist.objects.filter(due).order_by("due_at"))


def _claim(playlist: Playlist) -> bool:
    """Whether it is this process that makes it now."""
    mine = Playlist.objects.filter(pk=playlist.pk, due_at=playlist.due_at)
    return mine.update(due_at=timezone.now() + AGAIN) == 1


def _user(name: str) -> str:
    """Return a user's name as it is kept; names of servers' users do not differ by case alone."""
    name, own = clean_text(name).strip(), settings.SUBSONIC_USER
    return own if name.lower() in ("", own.lower()) else name


def _update(playlist: Playlist, **fields: Any) -> None:
    """Change the row, unless somebody has forgotten it meanwhile."""
    for name, value in fields.items():
        setattr(playlist, name, value)
    Playlist.objects.filter(pk=playlist.pk).update(**fields)
