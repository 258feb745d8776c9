"""The addresses that the Go server and the panel know; without trailing slash, never redirected."""

from django.urls import path

from batches.api.views import BatchViewSet, healthz

urlpatterns = [
    path("batch/start", BatchViewSet.as_view({"post": "start"})),
    path("batch/progress", BatchViewSet.as_view({"get": "progress"})),
    path("batch/cancel", BatchViewSet.as_view({"post": "cancel"})),
    path("healthz", healthz),
]
