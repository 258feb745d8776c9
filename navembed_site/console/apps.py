from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class ConsoleConfig(AppConfig):
    name = "navembed_site.console"
    label = "console"

    def ready(self) -> None:
        from navembed_site.console.roles import make_roles

        # Of apps without tables Django says nothing; that of users is as late as any.
        post_migrate.connect(make_roles, sender=apps.get_app_config("auth"))
