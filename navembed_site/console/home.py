"""Home: is all well, what is embedded, what is being done."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django.http import HttpRequest

from embeddings.embedder.states import unload_everywhere
from embeddings.encoders.registry import MODEL_KEYS
from navembed_site.console import health, looks, weights
from navembed_site.console.pages import change, page
from navembed_site.errors import NavembedError


class Overview:
    """Each part is asked for when a template shows it."""

    @cached_property
    def signs(self) -> list[health.Sign]:
        return health.signs.get()

    @cached_property
    def _looks(self) -> list[looks.JobLook]:
        return looks.open_and_last_jobs()

    @property
    def job(self) -> looks.JobLook | None:
        return looks.in_hand(self._looks)

    @property
    def jobs(self) -> list[looks.JobLook]:
        return self._looks[: looks.LAST_JOBS]

    @cached_property
    def cards(self) -> list[looks.ModelCard]:
        return looks.model_cards()

    @cached_property
    def lacking(self) -> list[looks.ModelCard]:
        """Models without usable weights."""
        return [card for card in self.cards if card.problem]

    @property
    def has_weights(self) -> bool:
        return len(self.lacking) < len(self.cards)

    @cached_property
    def download(self) -> weights.Download | None:
        """The download that goes on, or the last one while something is lacking."""
        return weights.download() if self.lacking else None

    @property
    def has_library(self) -> bool:
        return any(sign.name == "Library" and sign.tone == "good" for sign in self.signs)

    @property
    def has_vectors(self) -> bool:
        return any(card.counts["embedded"] for card in self.cards)


@page("console/home.html", parts=("health", "setup", "hand", "cards", "last_jobs"))
def home(request: HttpRequest) -> dict[str, Any]:
    return {"title": "Home", "overview": Overview()}


@change()
def unload(request: HttpRequest, model: str) -> str:
    """Give a model's memory back."""
    answers = unload_everywhere(model).values()
    health.signs.forget()
    if True in answers:
        return "Its memory is given back; it is loaded again when it is needed"
    problem = next((answer for answer in answers if isinstance(answer, str)), "it is in use, or was not loaded")
    raise NavembedError(f"nothing was unloaded: {problem}")


@change()
def fetch_weights(request: HttpRequest) -> str:
    """Begin the download of what a model needs, or all of them."""
    lacking = [key for key in MODEL_KEYS if health.models.get()[key]["problem"]]
    chosen = request.POST.getlist("model")
    weights.begin([key for key in lacking if not chosen or key in chosen])
    return "The download has begun; it goes on when you leave this page"
