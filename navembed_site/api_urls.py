"""Every address of the REST API, and where it is described."""

from __future__ import annotations

from django.contrib.admin.views.decorators import staff_member_required
from django.urls import include, path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from batches.api.v1.events import EventViewSet
from batches.api.v1.hosts import HostViewSet
from batches.api.v1.jobs import JobViewSet
from batches.api.v1.library import LibraryView
from batches.api.v1.results import CsvRenderer, ResultViewSet
from batches.api.v1.tracks import TrackViewSet
from embeddings.api import audiomuse
from embeddings.api.v1.models import ModelViewSet
from embeddings.api.v1.playlists import PlaylistViewSet
from embeddings.api.v1.search import SearchView
from embeddings.api.v1.similar import PathView, SimilarArtistsView, SimilarView
from embeddings.api.v1.snapshot import SnapshotView
from embeddings.api.v1.spaces import SpaceViewSet
from embeddings.api.v1.uploads import UploadTrackView, UploadView
from navembed_site.access.plugin import PluginStatusView
from navembed_site.instance.metrics_view import MetricsView

router = SimpleRouter(trailing_slash=False)
router.register("batches", JobViewSet, "job")
router.register("tracks", TrackViewSet, "track")
router.register("models", ModelViewSet, "model")
router.register("spaces", SpaceViewSet, "space")
router.register("playlists", PlaylistViewSet, "playlist")
router.register("hosts", HostViewSet, "host")

events = EventViewSet.as_view({"get": "list"})
results = ResultViewSet.as_view({"get": "list"})
table = ResultViewSet.as_view({"get": "export"}, renderer_classes=[CsvRenderer])
urlpatterns = [
    path("api/v1/batches/<int:job_id>/events", events, name="events"),
    path("api/v1/batches/<int:job_id>/results", results, name="results"),
    path("api/v1/batches/<int:job_id>/results.csv", table, name="results-table"),
    path("api/v1/library", LibraryView.as_view(), name="library"),
    path("api/v1/library/snapshot", SnapshotView.as_view(), name="library-snapshot"),
    path("api/v1/plugin/status", PluginStatusView.as_view(), name="plugin-status"),
    path("api/v1/search", SearchView.as_view(), name="search"),
    path("api/v1/similar", SimilarView.as_view(), name="similar"),
    path("api/v1/artists/similar", SimilarArtistsView.as_view(), name="similar-artists"),
    path("api/v1/path", PathView.as_view(), name="path"),
    path("api/v1/uploads", UploadView.as_view(), name="uploads"),
    path("api/v1/uploads/<uuid:upload_id>/tracks/<int:number>", UploadTrackView.as_view(), name="upload-track"),
    path("api/v1/", include(router.urls)),
    path("api/similar_tracks", audiomuse.SimilarTracksView.as_view(), name="audiomuse-tracks"),
    path("api/find_path", audiomuse.FindPathView.as_view(), name="audiomuse-path"),
    path("api/similar_artists", audiomuse.SimilarArtistsView.as_view(), name="audiomuse-artists"),
    path("metrics", MetricsView.as_view(), name="metrics"),
    path("api/schema", SpectacularJSONAPIView.as_view(), name="schema"),
    path("api/docs", staff_member_required(SpectacularSwaggerSplitView.as_view()), name="docs"),
]
