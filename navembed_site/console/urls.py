"""The console's pages, and its buttons, which take POST alone."""

from django.urls import path

from navembed_site.console import audio, duplicates, find, home, jobs, maps, problems, start, tracks, uploads, versions

app_name = "console"
urlpatterns = [
    path("", home.home, name="home"),
    path("unload/<slug:model>", home.unload, name="unload"),
    path("fetch-weights", home.fetch_weights, name="fetch_weights"),
    path("find", find.find, name="find"),
    path("find/save", find.save, name="save_playlist"),
    path("jobs", jobs.jobs, name="jobs"),
    path("jobs/new", start.start, name="start"),
    path("jobs/begin", start.begin, name="begin"),
    path("jobs/folders", start.folders, name="folders"),
    path("jobs/<int:pk>", jobs.job, name="job"),
    path("jobs/<int:pk>/failures", jobs.failures, name="failures"),
    path("jobs/<int:pk>/pause", jobs.pause, name="pause"),
    path("jobs/<int:pk>/resume", jobs.resume, name="resume"),
    path("jobs/<int:pk>/cancel", jobs.cancel, name="cancel"),
    path("jobs/<int:pk>/retry", jobs.retry, name="retry"),
    path("jobs/<int:pk>/ignore", jobs.ignore_failures, name="ignore_failures"),
    path("problems", problems.problems, name="problems"),
    path("problems/ignore", problems.ignore_these, name="ignore"),
    path("problems/notice", problems.notice_these, name="notice"),
    path("problems/retry", problems.retry_all, name="retry_all"),
    path("tracks", tracks.tracks, name="tracks"),
    path("track/<path:track_id>", tracks.track, name="track"),
    path("audio/<path:track_id>", audio.audio, name="audio"),
    path("reembed/<path:track_id>", tracks.reembed, name="reembed"),
    path("map", maps.map_page, name="map"),
    path("map/points", maps.points, name="points"),
    path("map/points/<int:key>", maps.point, name="point"),
    path("duplicates", duplicates.duplicates, name="duplicates"),
    path("duplicates/look", duplicates.look, name="look_for_duplicates"),
    path("duplicates/reject", duplicates.not_a_duplicate, name="not_a_duplicate"),
    path("duplicates/accept", duplicates.a_duplicate, name="a_duplicate"),
    path("duplicates/of/<path:track_id>", duplicates.of_track, name="duplicates_of"),
    path("uploads", uploads.uploads, name="uploads"),
    path("versions", versions.versions, name="versions"),
    path("versions/<int:pk>/make-live", versions.make_live, name="make_live"),
    path("versions/<int:pk>/go-back", versions.go_back, name="go_back"),
    path("versions/<int:pk>/drop", versions.give_up, name="drop"),
]
