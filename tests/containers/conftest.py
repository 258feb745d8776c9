from tests.processes.conftest import eventually, instance, migrated_database

__all__ = ["eventually", "instance", "migrated_database"]
