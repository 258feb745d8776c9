"""The batch routes. No trailing slash and no redirect: a 301 turns a POST into a GET."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from batches.api.v1 import JobViewSet
from batches.api.views import BatchViewSet, healthz

router = SimpleRouter(trailing_slash=False)
router.register("batches", JobViewSet, basename="job")

urlpatterns = [
    path("batch/start", BatchViewSet.as_view({"post": "start"})),
    path("batch/progress", BatchViewSet.as_view({"get": "progress"})),
    path("batch/cancel", BatchViewSet.as_view({"post": "cancel"})),
    path("healthz", healthz),
    path("api/v1/", include(router.urls)),
]
