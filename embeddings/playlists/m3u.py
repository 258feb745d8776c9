"""A playlist as a file that every player opens."""

from __future__ import annotations

from collections.abc import Sequence

from embeddings.library.places import places
from embeddings.models import Track
from navembed_site.names import original


def m3u(name: str, track_ids: Sequence[str]) -> bytes:
    """Return an extended M3U (UTF-8) of tracks by their paths on this host; what is not known any more is left out."""
    where, known = places(), Track.objects.in_bulk(list(track_ids))
    lines = [b"#EXTM3U", f"#PLAYLIST:{_line(name)}".encode()]
    for track in (known[track_id] for track_id in track_ids if track_id in known):
        lines.append(f"#EXTINF:{round(track.duration)},{_line(str(track))}".encode())
        lines.append(original(where.path_here(track.path)))
    return b"\n".join(lines) + b"\n"


def _line(text: str) -> str:
    return " ".join(text.split())
