"""The batch routes. No trailing slash and no redirect: a 301 turns a POST into a GET."""

from django.urls import path

from batches.api.contract.views import BatchViewSet, healthz

urlpatterns = [
    path("batch/start", BatchViewSet.as_view({"post": "start"}), name="batch-start"),
    path("batch/progress", BatchViewSet.as_view({"get": "progress"}), name="batch-progress"),
    path("batch/cancel", BatchViewSet.as_view({"post": "cancel"}), name="batch-cancel"),
    path("healthz", healthz, name="healthz"),
]
