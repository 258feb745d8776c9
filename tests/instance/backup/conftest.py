"""What the tests of backups share."""

from tests.instance.conftest import instance, migrated_database
from tests.milvus import lite_server, milvus

__all__ = ["instance", "lite_server", "migrated_database", "milvus"]
