from tests.instance.conftest import eventually, instance, migrated_database

__all__ = ["eventually", "instance", "migrated_database"]
