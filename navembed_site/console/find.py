"""Finding music by words or by tracks, model by model and merged."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest

from embeddings.encoders.registry import ENCODERS, MODEL_KEYS, TEXT_MODEL
from embeddings.models import Playlist, Track
from embeddings.playlists import service
from embeddings.playlists.recipe import MOST_TRACKS, Recipe
from embeddings.search.query import Query, Seed
from embeddings.search.recommend import Recommendation, recommend
from embeddings.search.text import text_vector
from navembed_site.console.pages import change, page
from navembed_site.console.tracks import search
from navembed_site.errors import NavembedError

SECONDS = 20.0
MOST_SEEDS = 20
SUGGESTED = 6
TOGETHER = "together"


@dataclass(frozen=True)
class Hit:
    """A track that was found, and why."""

    track: Track
    found: Recommendation

    @property
    def percent(self) -> float:
        return 100 * self.found.score


class FindForm(forms.Form):
    """What is looked for. Strengths are percent, as sliders give them."""

    q = forms.CharField(required=False, max_length=500, label="Words")
    like = forms.CharField(required=False)
    unlike = forms.CharField(required=False)
    avoid = forms.CharField(required=False, max_length=500, label="But not")
    diversity = forms.IntegerField(required=False, min_value=0, max_value=100)
    dislike = forms.IntegerField(required=False, min_value=0, max_value=100, label="Push dislikes down")
    models = forms.MultipleChoiceField(required=False, choices=[(encoder.key, encoder.label) for encoder in ENCODERS])
    limit = forms.IntegerField(required=False, min_value=1, max_value=100, label="Tracks")


class SaveForm(FindForm):
    """A playlist of what was looked for, under a name, made once or again and again."""

    name = forms.CharField(max_length=service.LONGEST_NAME, label="Playlist")
    user = forms.CharField(required=False, max_length=service.LONGEST_NAME)
    schedule = forms.ChoiceField(choices=Playlist.Schedule.choices, label="Make it")
    limit = forms.IntegerField(min_value=1, max_value=MOST_TRACKS, label="Tracks")
    favourites = forms.BooleanField(required=False)
    fresh = forms.BooleanField(required=False)


@page("console/find.html", parts=("found",))
def find(request: HttpRequest) -> dict[str, Any]:
    """The question; its answers come one by one, each with ``?part=found&column=``."""
    form = FindForm(request.GET)
    form.is_valid()  # what cannot be so is told, the rest is answered
    asked = form.cleaned_data
    likes, unlikes = _tracks(request.GET.getlist("like")), _tracks(request.GET.getlist("unlike"))
    words = asked.get("q", "")
    context: dict[str, Any] = {
        "title": "Find",
        "q": words,
        "typed": {name: request.GET.get(name, "") for name in ("q", "avoid")},
        "problems": _problems(form),
        "avoid": asked.get("avoid", ""),
        "likes": likes,
        "unlikes": unlikes,
        "diversity": asked.get("diversity") or 0,
        "dislike": _percent(asked.get("dislike")),
        "chosen": asked.get("models") or list(MODEL_KEYS),
        "models": [(encoder.key, encoder.label) for encoder in ENCODERS],
        "limit": asked.get("limit") or 10,
        "has_asked": bool(words or likes),
        "schedules": Playlist.Schedule.choices,
        "playlist_user": settings.SUBSONIC_USER,
        "playlist_limit": Recipe.limit,
    }
    if words:
        context["titles"] = search(words)[:SUGGESTED]
    columns = [(key, label) for key, label in context["models"] if key in context["chosen"]]
    if len(columns) > 1:
        columns.insert(0, (TOGETHER, "All together"))
    if (key := request.GET.get("column")) in dict(columns) and context["has_asked"]:
        return context | _answer(context, context["chosen"] if key == TOGETHER else [str(key)])
    return context | {"columns": columns if context["has_asked"] else []}


@change()
def save(request: HttpRequest) -> str:
    """Makes a playlist of what was looked for."""
    form = SaveForm(request.POST)
    if not form.is_valid():
        raise ValueError(f"The playlist is not saved. {' '.join(_problems(form))}")
    asked = form.cleaned_data
    recipe = Recipe(
        like=[track.pk for track in _tracks(request.POST.getlist("like"))],
        unlike=[track.pk for track in _tracks(request.POST.getlist("unlike"))],
        text=asked["q"],
        avoid=asked["avoid"],
        models=asked["models"] or MODEL_KEYS,
        limit=asked["limit"],
        diversity=(asked["diversity"] or 0) / 100,
        dislike_strength=_percent(asked["dislike"]) / 100,
        favourites=asked["favourites"],
        fresh=asked["fresh"],
    )
    playlist = service.save(asked["name"], recipe, user=asked["user"], schedule=asked["schedule"])
    warnings = service.make(playlist)
    return " ".join([service.told(playlist), *warnings])


def _problems(form: forms.Form) -> list[str]:
    """Return what is wrong with each field, in a sentence."""
    return [f"{form[name].label}: {error}" for name, errors in form.errors.items() for error in errors]


def _percent(dislike: int | None) -> int:
    return 100 if dislike is None else dislike


def _tracks(ids: list[str]) -> list[Track]:
    known = Track.objects.in_bulk(ids[:MOST_SEEDS])
    return [known[each] for each in dict.fromkeys(ids) if each in known]


def _answer(asked: dict[str, Any], models: list[str]) -> dict[str, Any]:
    """Ask these models together."""
    _read(asked["q"])
    answer = recommend(_query(asked, models), seconds=SECONDS)
    known = Track.objects.in_bulk([each.track_id for each in answer.tracks])
    hits = [Hit(known[each.track_id], each) for each in answer.tracks if each.track_id in known]
    return {"hits": hits, "warnings": answer.warnings}


def _read(words: str) -> None:
    """Wait for the words' vector, which is remembered: the text model may have to be loaded first."""
    if words:
        with suppress(NavembedError, ValueError):  # the search says why
            text_vector(TEXT_MODEL.audio_model, words, wait_seconds=SECONDS)


def _query(asked: dict[str, Any], models: list[str]) -> Query:
    return Query(
        seeds=[Seed(track.pk) for track in asked["likes"]],
        texts=[asked["q"]] if asked["q"] else [],
        models=models,
        limit=asked["limit"],
        diversity=asked["diversity"] / 100,
        disliked_track_ids=[track.pk for track in asked["unlikes"]],
        dislike_strength=asked["dislike"] / 100,
        negative_prompts=[asked["avoid"]] if asked["avoid"] else [],
        mode="search",
    )
