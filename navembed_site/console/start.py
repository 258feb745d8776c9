"""Starting a job: what it would do is shown before it can be started."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import F, Value
from django.db.models.functions import Left, StrIndex, Substr
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.http.response import HttpResponseBase

from batches.requests import JobRequest, RequestRefused
from batches.selectors.dry_run import Preview, preview
from batches.selectors.hosts import has_gpu
from embeddings.encoders.registry import ENCODERS
from embeddings.errors import LibraryUnavailable
from embeddings.library import open_library
from embeddings.models import Track
from navembed_site.console.jobs import start_for
from navembed_site.console.pages import REFUSALS, change, page, show

SLOW_ON_CPU = "mert"
"""Takes minutes per track without a GPU, so it is not ticked there by default."""
FOLDERS_SHOWN = 30
VERDICTS = {
    "new": "new",
    "changed": "changed",
    "failed before": "tried before",
    "anew": "again",
    "new id": "moved, kept",
    "same audio": "same audio, kept",
    "bad file": "known to be bad",
    "up to date": "up to date",
}


class StartForm(forms.Form):
    """What a new job is asked for."""

    models = forms.MultipleChoiceField(
        choices=[(encoder.key, encoder.label) for encoder in ENCODERS],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one model."},
    )
    extent = forms.ChoiceField(
        choices=[("missing", "What is missing or has changed"), ("all", "Everything anew, beside what search uses")],
        widget=forms.RadioSelect,
        initial="missing",
    )
    retry_bad_files = forms.BooleanField(required=False, label="Try files again that are known to be bad")
    library_id = forms.TypedChoiceField(required=False, coerce=int, empty_value=None, label="Library")
    path_prefix = forms.CharField(required=False, strip=False, label="Only below this folder")
    limit = forms.IntegerField(required=False, label="At most so many tracks")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        libraries = _libraries()
        named = [(number, f"{name} ({number})") for number, name in libraries.items()]
        library: Any = self.fields["library_id"]
        library.choices = [("", "All libraries"), *named]
        self.has_libraries = len(libraries) > 1

    def clean(self) -> dict[str, Any]:
        """Put the values together to ``request``."""
        given = super().clean() or {}
        if not self.errors:
            values = {name: value for name, value in given.items() if name != "extent"}
            try:
                given["request"] = JobRequest(**values, clear_existing=given["extent"] == "all")
            except RequestRefused as error:
                self.add_error(error.field, str(error))
        return given


@page("console/start.html", parts=("preview", "anew"))
def start(request: HttpRequest) -> dict[str, Any] | HttpResponse:
    """The form as it was asked for; what such a job would do takes seconds in a large library, so it comes later."""
    asked = {**_usual(), **{name: request.GET.getlist(name) for name in request.GET}}
    form = StartForm(_as_form(asked))
    foreseen = _foreseen(form) if {"part", "foresee"} & request.GET.keys() else {}
    return {"title": "Start a job", "form": form, "roots": _roots(), **foreseen}


@change()
def begin(request: HttpRequest) -> HttpResponseBase:
    """Start it, or show the form again as it was filled in, with what stands in the way."""
    form = StartForm(request.POST)
    problem = "Nothing was started: see below."
    if form.is_valid():
        try:
            return start_for(request, form.cleaned_data["request"])
        except REFUSALS as refusal:
            problem = str(refusal)
    context = {"title": "Start a job", "form": form, "roots": _roots(), "problem": problem, **_foreseen(form)}
    return show(request, "console/start.html", context, status=422)


def _foreseen(form: StartForm) -> dict[str, Any]:
    """Return what such a job would do, or why nobody can say."""
    if not form.is_valid():
        return {"is_foreseen": True}
    wanted = form.cleaned_data["request"]
    try:
        found = preview(wanted)
    except REFUSALS as refusal:
        return {"is_foreseen": True, "refusal": str(refusal)}
    rows, due = _rows(found), _due(found)
    return {"is_foreseen": True, "preview": found, "rows": rows, "due": due, "clears": wanted.clear_existing}


def _rows(found: Preview) -> list[tuple[str, list[int]]]:
    """Return by verdict how many tracks of each model; verdicts that concern none are left out."""
    rows = [(label, [model.tracks[key] for model in found.models]) for key, label in VERDICTS.items()]
    rows.append(("gone, removed", [model.gone for model in found.models]))
    return [(label, numbers) for label, numbers in rows if any(numbers)]


def _due(found: Preview) -> int:
    """Return how many track × model pairs the job would embed."""
    return sum(model.tracks[key] for model in found.models for key in ("new", "changed", "failed before", "anew"))


def _usual() -> dict[str, list[str]]:
    """Return what the form says at first."""
    return {"models": usual_models(), "extent": ["missing"]}


def usual_models() -> list[str]:
    """Return the models that a new job has unless somebody chooses others."""
    return [encoder.key for encoder in ENCODERS if encoder.key != SLOW_ON_CPU or has_gpu()]


def _as_form(asked: dict[str, list[str]]) -> Any:
    form = QueryDict(mutable=True)
    for name, values in asked.items():
        form.setlist(name, values)
    return form


def _libraries() -> dict[int, str]:
    try:
        return open_library().libraries()
    except LibraryUnavailable:
        return {}


def _roots() -> list[str]:
    """Return folders that a path may begin with, to complete what is typed."""
    try:
        return [f"{root}/" for root in open_library().folders().values()]
    except LibraryUnavailable:
        return []


@page("console/start.html")
def folders(request: HttpRequest) -> HttpResponse:
    """Return the folders that complete what is typed of a path, as a list in JSON."""
    typed = request.GET.get("prefix", "")
    if not typed:
        return JsonResponse(_roots(), safe=False)
    start = typed[: typed.rfind("/") + 1]
    rest: Any = Substr("path", len(start) + 1)
    below = Track.objects.filter(playable=True).alias(head=Left("path", len(typed)), slash=StrIndex(rest, Value("/")))
    names = below.filter(head=typed, slash__gt=0).annotate(folder=Left("path", F("slash") + len(start)))
    found = names.order_by("folder").values_list("folder", flat=True).distinct()[:FOLDERS_SHOWN]
    return JsonResponse(list(found), safe=False)
