"""Music of the group on the map that a track belongs to."""

from __future__ import annotations

from embeddings.maps.groups import group_of
from embeddings.search.diversity import one_of_each_recording
from embeddings.search.listener import allowed_libraries, present_tracks, visible_libraries
from embeddings.search.merging import Candidate
from embeddings.search.query import Query
from embeddings.spaces.lifecycle import live_space


def same_group(track_id: str, query: Query) -> tuple[list[str], list[str]]:
    """Return the tracks in the middle of a track's group on the map of the query's first model, and warnings."""
    model = query.models[0]
    warnings: list[str] = []
    space = live_space(model)
    members = group_of(space, track_id) if space else None
    if members is None:
        return [], [f"The track is not on the map of {model}: `manage.py make_maps {model}` draws it anew."]
    libraries = allowed_libraries(query, visible_libraries(query, warnings), warnings)
    tracks = present_tracks(members, warnings, libraries)
    ranked = [Candidate(each, -float(place), {}) for place, each in enumerate(members) if each in tracks]
    return [each.track_id for each in one_of_each_recording(ranked, tracks)][: query.limit], warnings
