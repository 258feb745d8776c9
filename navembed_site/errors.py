"""The base of every error that navembed raises on purpose."""

from __future__ import annotations

from navembed_site.names import clean_text


class NavembedError(Exception):
    """Something that a caller may expect. ``permanent``: the same input fails again, so it is not tried again.

    ``unprocessable``: nothing can be made of what was asked. ``stage`` names where in a track's way it happened:
    library, decode, encode, store, index, search, server. ``model`` names the model that it concerns
    as a whole, if there is one.
    """

    permanent = False
    unprocessable = False
    stage = ""
    model = ""

    def __init__(self, message: str, *, stage: str = "", permanent: bool | None = None) -> None:
        super().__init__(clean_text(message))  # it may name a file, and is stored
        if stage:
            self.stage = stage
        if permanent is not None:
            self.permanent = permanent
