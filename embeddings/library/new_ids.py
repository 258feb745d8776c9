"""What names a track follows it to a new id, as its vectors do: a music server may give a whole library new ones.

Files that cannot be embedded have no vector to go by; ``bad_files`` follows those.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.db import connection, transaction

from embeddings.duplicates import pairs
from embeddings.models import PlaylistTrack
from navembed_site.process.slow_calls import RaiseIfStopped

# The same file under another id, as ``spaces.reuse`` knows it; few tracks are named and gone.
MOVED = f"""
    SELECT o.id, MIN(t.id)
    FROM embeddings_track o JOIN embeddings_track t
    ON t.playable AND t.size = o.size AND t.mtime = o.mtime AND t.path = o.path
    WHERE NOT o.playable AND o.id IN (SELECT track_id FROM {PlaylistTrack._meta.db_table})
    GROUP BY o.id"""


def follow(new_ids: Mapping[str, str]) -> None:
    """Replaces these ids by the new ones wherever they are named, in the surrounding transaction."""
    named = PlaylistTrack.objects.filter(track__in=list(new_ids))
    for track_id in set(named.values_list("track_id", flat=True)):
        PlaylistTrack.objects.filter(track=track_id).update(track=new_ids[track_id])
    pairs.follow(new_ids)


def follow_moved(raise_if_stopped: RaiseIfStopped) -> None:
    """Follow tracks that have the path, size and time of a gone one, whether or not that had a vector."""
    if not PlaylistTrack.objects.filter(track__playable=False).exists():
        return
    with transaction.atomic(), connection.cursor() as cursor:
        raise_if_stopped()
        cursor.execute(MOVED)
        follow(dict(cursor.fetchall()))
