"""Jobs and their results in the console. Everything that changes a job calls the services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import Truncator

from batches import services
from batches.models import BatchJob, ModelProgress, TrackResult
from batches.requests import JobRequest, RequestRefused
from batches.selectors.progress import snapshot
from batches.terminal.jobs import state_text
from embeddings.encoders.registry import ENCODERS
from embeddings.errors import NoSuchTracks
from embeddings.library.bad_files import bad_files, ignore
from embeddings.models import BadFile
from navembed_site.console.read_only import OTHER_BUTTONS, ReadOnlyAdmin

NOTE_CHARS = 90  # the job's own page has all of it

admin.site.site_header = admin.site.site_title = "navembed"
admin.site.index_title = "Console"
admin.site.site_url = None  # there is no other site to view


class StartForm(forms.ModelForm[BatchJob]):
    """What a new job is asked for."""

    clear_existing = forms.BooleanField(required=False, help_text="Embed everything anew, not only what is missing.")
    retry_bad_files = forms.BooleanField(required=False, help_text="Also try files again that are known to be bad.")
    limit = forms.IntegerField(required=False, help_text="At most so many tracks.")
    library_id = forms.IntegerField(required=False, label="Library", help_text="Only Navidrome's library of this id.")
    path_prefix = forms.CharField(required=False, help_text="Only files whose absolute path begins so.")
    model_keys = forms.MultipleChoiceField(
        choices=[(encoder.key, encoder.label) for encoder in ENCODERS],
        initial=[encoder.key for encoder in ENCODERS],
        widget=forms.CheckboxSelectMultiple,
        label="Models",
    )
    refusal = ""  # why a start with these values was refused

    class Meta:
        model = BatchJob
        fields = ["model_keys", "clear_existing", "retry_bad_files", "limit", "library_id", "path_prefix"]

    def clean(self) -> dict[str, Any]:
        """Put the values together to ``request``; after a refusal they stay in the form, beside the reason."""
        values = super().clean() or {}
        if self.refusal:
            self.add_error(None, self.refusal)
        elif not self.errors:
            try:
                values["request"] = JobRequest(values["model_keys"], *(values[name] for name in self.Meta.fields[1:]))
            except RequestRefused as error:
                self.add_error(error.field, str(error))
        return values


class ModelProgressInline(admin.TabularInline[ModelProgress, BatchJob]):
    model = ModelProgress
    verbose_name_plural = "Models"
    extra = 0
    can_delete = False
    fields = readonly_fields = ("model", "space", "total", "succeeded", "failed", "skipped", "rate", "left_out")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelProgress]:
        return super().get_queryset(request).select_related("space")

    def has_add_permission(self, request: HttpRequest, obj: BatchJob | None = None) -> bool:
        return False


@admin.register(BatchJob)
class BatchJobAdmin(ReadOnlyAdmin[BatchJob]):
    list_display = ["__str__", "status", "progress", "tracks", "failed_tracks", "note", "created_at", "started_by"]
    list_filter = ["status", "created_at"]
    search_fields = ["id", "message", "started_by"]
    actions = ["pause", "resume", "cancel", "retry_failed"]
    inlines = [ModelProgressInline]

    class Media:
        js = ("batches/live.js",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[BatchJob]:
        return super().get_queryset(request).prefetch_related("progress")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("batches.add_batchjob")

    def get_form(self, request: HttpRequest, obj: BatchJob | None = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            return type("Form", (StartForm,), {"refusal": getattr(request, "refusal", "")})
        return super().get_form(request, obj, change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: BatchJob | None = None) -> Any:
        if obj is None:
            return StartForm.Meta.fields
        return ["progress", *(name for name in super().get_fields(request, obj) if name != "progress")]

    def get_readonly_fields(self, request: HttpRequest, obj: BatchJob | None = None) -> Any:
        return ["progress"] if obj else []

    def get_inlines(self, request: HttpRequest, obj: BatchJob | None) -> Any:
        return self.inlines if obj else []

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """One way to save, since it starts a job. A start that is refused shows the form again, as it was filled in."""
        context = dict.fromkeys(OTHER_BUTTONS, False) | (extra_context or {})
        try:
            return super().add_view(request, form_url, context)
        except (services.JobConflict, NoSuchTracks) as error:
            request.refusal = str(error)  # type: ignore[attr-defined]  # for get_form
            return super().add_view(request, form_url, context)

    def save_model(self, request: HttpRequest, obj: BatchJob, form: Any, change: bool) -> None:
        """Start the job, or queue it; the service makes the row, and ``obj`` becomes it."""
        job = services.start_job(form.cleaned_data["request"], started_by=request.user.get_username(), queue=True)
        obj.pk = job.pk
        obj.refresh_from_db()

    def response_add(self, request: HttpRequest, obj: BatchJob, post_url_continue: str | None = None) -> HttpResponse:
        """Say where the job stands, which is not always at work."""
        self.message_user(request, state_text(obj))
        return HttpResponseRedirect(reverse("admin:batches_batchjob_changelist"))

    @admin.display(description="Progress")
    def progress(self, job: BatchJob) -> str:
        """live.js goes on from there while the job is unfinished."""
        percent = snapshot(job).percent
        return format_html(
            '<span{}><progress max="100" value="{}"></progress> <span>{} %</span></span>',
            format_html(' data-job="{}"', job.pk) if job.is_open else "",
            percent,
            round(percent, 1),
        )

    @admin.display(description="Message", ordering="message")
    def note(self, job: BatchJob) -> str:
        return Truncator(job.message).chars(NOTE_CHARS)

    @admin.display(description="Tracks")
    def tracks(self, job: BatchJob) -> str:
        return f"{job.processed_tracks + job.failed_tracks} / {job.total_tracks}"

    @admin.action(description="Pause", permissions=["add"])
    def pause(self, request: HttpRequest, jobs: QuerySet[BatchJob]) -> None:
        self._each(request, jobs, services.pause_job)

    @admin.action(description="Cancel", permissions=["add"])
    def cancel(self, request: HttpRequest, jobs: QuerySet[BatchJob]) -> None:
        self._each(request, jobs, services.cancel_job)

    @admin.action(description="Resume", permissions=["add"])
    def resume(self, request: HttpRequest, jobs: QuerySet[BatchJob]) -> None:
        self._each(request, jobs, services.resume_job)

    @admin.action(description="Retry failed tracks", permissions=["add"])
    def retry_failed(self, request: HttpRequest, jobs: QuerySet[BatchJob]) -> None:
        self._each(request, jobs, services.retry_failed)

    def _each(self, request: HttpRequest, jobs: QuerySet[BatchJob], service: Callable[[BatchJob], object]) -> None:
        """Call ``service`` for each job and say where it stands then: nothing may have been to do."""
        for job in jobs:
            try:
                service(job)
            except services.JobConflict as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.message_user(request, state_text(job))


@admin.register(BadFile)
class BadFileAdmin(ReadOnlyAdmin[BadFile]):
    """Files that no job tries again until they change."""

    list_display = ["track", "model", "error_message", "failed_at", "ignored"]
    list_filter = ["ignored", "model"]
    search_fields = ["track__title", "track__artist", "track__path", "error_message"]
    actions = ["ignore", "notice", "retry"]
    list_select_related = ["track"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[BadFile]:
        return bad_files()

    def has_start_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("batches.add_batchjob")

    @admin.action(description="Ignore: count them no more", permissions=["start"])
    def ignore(self, request: HttpRequest, chosen: QuerySet[BadFile]) -> None:
        count = ignore(set(chosen.values_list("track_id", flat=True)))
        self.message_user(request, f"{count} files are ignored until they change.")

    @admin.action(description="Count them again", permissions=["start"])
    def notice(self, request: HttpRequest, chosen: QuerySet[BadFile]) -> None:
        count = ignore(set(chosen.values_list("track_id", flat=True)), ignored=False)
        self.message_user(request, f"{count} files are counted again.")

    @admin.action(description="Try all bad files again, in a new job", permissions=["start"])
    def retry(self, request: HttpRequest, chosen: QuerySet[BadFile]) -> None:
        try:
            everything = JobRequest(retry_bad_files=True)
            job = services.start_job(everything, started_by=request.user.get_username(), queue=True)
        except services.JobConflict as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            self.message_user(request, f"{job} tries them again.")


class ModelFilter(admin.SimpleListFilter):
    """By model; Django's own would look for the values in millions of rows."""

    title = parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(encoder.key, encoder.label) for encoder in ENCODERS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[TrackResult]) -> QuerySet[TrackResult]:
        return queryset.filter(model=self.value()) if self.value() else queryset


@admin.register(TrackResult)
class TrackResultAdmin(ReadOnlyAdmin[TrackResult]):
    list_display = [
        "track",
        "model",
        "status",
        "attempts",
        "error_class",
        "error_message",
        "note",
        "seconds",
        "finished_at",
    ]
    list_filter = ["status", ModelFilter, "job"]
    search_fields = ["track__title", "track__artist", "track__path", "error_class", "error_message"]
    list_select_related = ["track"]
    show_full_result_count = False
