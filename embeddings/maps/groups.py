"""The group of like sound that a track belongs to on a map."""

from __future__ import annotations

import numpy as np

from embeddings.models import Embedding, EmbeddingSpace, SpaceMap

MOST_KEYS = 5_000  # of a group's middle


def group_of(space: EmbeddingSpace, track_id: str) -> list[str] | None:
    """Return the tracks of a track's group, those in its middle first; None when the track is on no map of the space.

    The middle of a group is the median of the places of its tracks on the map.
    """
    drawn = SpaceMap.objects.filter(space=space).first()
    key = Embedding.objects.filter(space=space, track=track_id).values_list("pk", flat=True).first()
    if drawn is None or key is None:
        return None
    keys = np.frombuffer(drawn.keys, "<i8")
    groups = np.frombuffer(drawn.clusters, np.uint8)
    place = int(np.searchsorted(keys, key))
    if place == len(keys) or keys[place] != key:
        return None
    members = np.flatnonzero(groups == groups[place])
    places = np.frombuffer(drawn.umap or drawn.pca, "<f4").reshape(-1, 2)[members]
    distances = np.linalg.norm(places - np.median(places, axis=0), axis=1)
    wanted = [int(each) for each in keys[members[np.argsort(distances, kind="stable")[:MOST_KEYS]]]]
    tracks = dict(Embedding.objects.filter(pk__in=wanted).values_list("pk", "track"))
    return [tracks[each] for each in wanted if each in tracks]
