from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "navembed_site.access"
    label = "access"

    def ready(self) -> None:
        from navembed_site.access import checks  # noqa: F401  (registers the system checks)
