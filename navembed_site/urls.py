"""Every address the application answers."""

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from navembed_site.console import panel
from navembed_site.http.problems import is_browser
from navembed_site.instance import first_user

admin.autodiscover()


@csrf_exempt  # it changes nothing
@require_safe
def front_door(request: HttpRequest) -> HttpResponse:
    """Lead people to the console. Programs find nothing here, and are never redirected."""
    if not is_browser(request):
        raise Http404
    return redirect("admin:index")


urlpatterns = [
    path("", front_door),
    path("admin", front_door),
    path("admin/", include("navembed_site.console.urls")),
    path("admin/", admin.site.urls),
    path("panel", panel.panel, name="panel"),
    path("panel/start", panel.start, name="panel_start"),
    path("panel/cancel", panel.cancel, name="panel_cancel"),
    path("setup/<str:token>", first_user.first_user, name="first_user"),
    path("", include("batches.api.urls")),
    path("", include("embeddings.api.urls")),
    path("", include("navembed_site.api_urls")),
]
handler400 = "navembed_site.http.problems.bad_request"
handler403 = "navembed_site.http.problems.permission_denied"
handler404 = "navembed_site.http.problems.not_found"
handler500 = "navembed_site.http.problems.server_error"
