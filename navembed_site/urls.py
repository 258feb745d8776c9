"""Every address the application answers."""

from django.contrib import admin
from django.urls import include, path

from navembed_site import setup

urlpatterns = [
    path("admin/", admin.site.urls),
    path("setup/<str:token>", setup.first_user, name="setup"),
    path("", include("batches.api.urls")),
    path("", include("embeddings.api.urls")),
    path("", include("navembed_site.rest.urls")),
]
handler400 = "navembed_site.rest.problems.bad_request"
handler403 = "navembed_site.rest.problems.permission_denied"
handler404 = "navembed_site.rest.problems.not_found"
handler500 = "navembed_site.rest.problems.server_error"
