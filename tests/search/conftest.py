"""What the tests of search share: spaces of three models over the same tracks, and Navidrome's database of them."""

from __future__ import annotations

import pytest

from tests.milvus import lite_server, milvus

__all__ = ["lite_server", "milvus"]

pytestmark = pytest.mark.django_db
