"""Every address the application answers."""

from django.contrib import admin
from django.urls import include, path

from navembed_site import setup

urlpatterns = [
    path("admin/", admin.site.urls),
    path("setup/<str:token>", setup.first_user, name="setup"),
    path("", include("batches.api.urls")),
]
