"""The WSGI application that `web` serves."""

import os
import threading

from django.core.wsgi import get_wsgi_application

from navembed_site.database import health

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "navembed_site.settings")
application = get_wsgi_application()


def _warm_up() -> None:
    """Prepare the first search: it would take seconds, and the Go server waits five."""
    from django.db import connection

    from embeddings.search.warm_up import warm_up

    try:
        warm_up()
    finally:
        connection.close()  # the thread's own


health.watch.start()
threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()
