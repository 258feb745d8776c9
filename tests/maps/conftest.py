"""What tests of maps share: a compiler that keeps its work."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def what_is_compiled_is_kept() -> None:
    """Keep on the disk what numba makes of UMAP, which takes half a minute, as it keeps what is below UMAP."""
    import umap.umap_  # costs seconds
    from numba.core.dispatcher import Dispatcher

    for module in (umap.umap_, umap.layouts, umap.utils, umap.distances):
        for each in vars(module).values():
            if isinstance(each, Dispatcher):
                each.enable_caching()
