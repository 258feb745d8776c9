"""What the tests of backups share."""

from tests.milvus import lite_server, milvus
from tests.processes.conftest import instance, migrated_database

__all__ = ["instance", "lite_server", "migrated_database", "milvus"]
