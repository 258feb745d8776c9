from django.db import migrations, models
from django.utils import timezone


def keep_the_newest(apps, schema_editor):
    """Earlier versions kept any number of spaces: of each model the newest stays, its time begins now."""
    table = apps.get_model("embeddings", "EmbeddingSpace").objects.using(schema_editor.connection.alias)
    spaces = table.filter(status="kept")
    seen = set()
    for space in spaces.order_by("-pk"):
        space.status = "dropping" if space.model in seen else "kept"
        space.kept_at = timezone.now()
        space.save(update_fields=["status", "kept_at"])
        seen.add(space.model)


class Migration(migrations.Migration):

    dependencies = [
        ('embeddings', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='embeddingspace',
            name='kept_at',
            field=models.DateTimeField(help_text='When another one became live in its place.', null=True),
        ),
        migrations.AlterField(
            model_name='embeddingspace',
            name='status',
            field=models.CharField(choices=[('building', 'Building'), ('live', 'Live'), ('kept', 'Kept'), ('dropping', 'Dropping')], max_length=16),
        ),
        migrations.RunPython(keep_the_newest, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name='embeddingspace',
            constraint=models.UniqueConstraint(condition=models.Q(('status', 'kept')), fields=('model',), name='one_kept_space_per_model'),
        ),
    ]
