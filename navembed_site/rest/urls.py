"""Every address of the REST API, and where it is described."""

from __future__ import annotations

from django.contrib.admin.views.decorators import staff_member_required
from django.urls import include, path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from batches.api.jobs import JobViewSet

router = SimpleRouter(trailing_slash=False)
router.register("batches", JobViewSet, "job")

urlpatterns = [
    path("api/v1/", include(router.urls)),
    path("api/schema", SpectacularJSONAPIView.as_view(), name="schema"),
    path("api/docs", staff_member_required(SpectacularSwaggerSplitView.as_view()), name="docs"),
]
