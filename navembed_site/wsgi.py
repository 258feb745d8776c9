"""The WSGI application that granian serves."""

import os
import threading

from django.core.wsgi import get_wsgi_application

from navembed_site.bodies import with_whole_bodies

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "navembed_site.settings")
application = with_whole_bodies(get_wsgi_application())


def _warm_up() -> None:
    """Import what the first search needs: it takes seconds, and the Go server waits five."""
    import scipy.fft
    import scipy.special  # noqa: F401

    from embeddings.indexing import vector_store

    vector_store()


threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()
