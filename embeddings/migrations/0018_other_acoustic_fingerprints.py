"""Forgets the uploads' acoustic fingerprints: they have other bits now, and uploads are kept for days only."""

from typing import Any

from django.db import migrations


def forget(apps: Any, _: Any) -> None:
    apps.get_model("embeddings", "UploadEmbedding").objects.exclude(sound=b"").update(sound=b"")


class Migration(migrations.Migration):
    dependencies = [("embeddings", "0017_accepted_uploads")]

    operations = [migrations.RunPython(forget, migrations.RunPython.noop)]
