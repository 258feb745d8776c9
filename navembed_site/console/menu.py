"""The theme's settings, with the menu."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy

from navembed_site.access.scopes import Scope, scope_of


def _page(title: str, icon: str, name: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse_lazy(name)}


def is_admin(request: HttpRequest) -> bool:
    """Whether the menu shows who may do what."""
    return scope_of(request.user) is Scope.ADMIN


PAGES = [
    _page("Home", "home", "admin:index"),
    _page("Find", "search", "console:find"),
    _page("Jobs", "playlist_play", "console:jobs"),
    _page("Problems", "error", "console:problems"),
    _page("Tracks", "library_music", "console:tracks"),
    _page("Map", "scatter_plot", "console:map"),
    _page("Duplicates", "content_copy", "console:duplicates"),
    _page("Playlists", "queue_music", "console:playlists"),
    _page("Uploads", "upload_file", "console:uploads"),
    _page("Versions", "history", "console:versions"),
]
ACCESS = [
    _page("Users", "group", "admin:auth_user_changelist"),
    _page("Tokens", "key", "admin:access_token_changelist"),
]
OTHER = [{"title": "API", "icon": "code", "link": reverse_lazy("docs")}]
UNFOLD = {
    "SITE_TITLE": "navembed",
    "SITE_HEADER": "navembed",
    "SITE_SUBHEADER": "finds music by how it sounds",
    "SITE_SYMBOL": "graphic_eq",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda _: static("console/icon.svg")}],
    "SITE_URL": None,  # there is no other site to go back to
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [lambda _: static("console/console.css")],
    "SCRIPTS": [lambda _: static("console/console.js")],
    "SIDEBAR": {  # without the theme's search: it knows tables alone, and no keyboard reaches its button
        "navigation": [
            {"items": PAGES},
            {
                "title": "Access",
                "separator": True,
                "items": [item | {"permission": is_admin} for item in ACCESS],
            },
            {"separator": True, "items": OTHER},
        ]
    },
    "COLORS": {
        "primary": {
            "50": "#eef8f6",
            "100": "#d5efe9",
            "200": "#aedfd5",
            "300": "#7ec8bb",
            "400": "#4fab9d",
            "500": "#2f9083",
            "600": "#1f7469",
            "700": "#1a5d55",
            "800": "#184a45",
            "900": "#173e3a",
            "950": "#082422",
        }
    },
}
