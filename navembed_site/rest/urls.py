"""Every address of the REST API, and where it is described."""

from __future__ import annotations

from django.contrib.admin.views.decorators import staff_member_required
from django.urls import include, path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from batches.api.jobs import JobViewSet
from batches.api.library import LibraryView
from batches.api.metrics import MetricsView
from batches.api.results import CsvRenderer, ResultViewSet
from batches.api.tracks import TrackViewSet
from embeddings.api.models import ModelViewSet
from embeddings.api.search import SearchView
from embeddings.api.snapshot import SnapshotView
from embeddings.api.spaces import SpaceViewSet

router = SimpleRouter(trailing_slash=False)
router.register("batches", JobViewSet, "job")
router.register("tracks", TrackViewSet, "track")
router.register("models", ModelViewSet, "model")
router.register("spaces", SpaceViewSet, "space")

results = ResultViewSet.as_view({"get": "list"})
table = ResultViewSet.as_view({"get": "export"}, renderer_classes=[CsvRenderer])
urlpatterns = [
    path("api/v1/batches/<int:job_id>/results", results, name="results"),
    path("api/v1/batches/<int:job_id>/results.csv", table, name="results-table"),
    path("api/v1/library", LibraryView.as_view(), name="library"),
    path("api/v1/library/snapshot", SnapshotView.as_view(), name="library-snapshot"),
    path("api/v1/search", SearchView.as_view(), name="search"),
    path("api/v1/", include(router.urls)),
    path("metrics", MetricsView.as_view(), name="metrics"),
    path("api/schema", SpectacularJSONAPIView.as_view(), name="schema"),
    path("api/docs", staff_member_required(SpectacularSwaggerSplitView.as_view()), name="docs"),
]
