import embeddings.models
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('embeddings', '0007_tracks_that_are_away'),
    ]

    operations = [
        migrations.CreateModel(
            name='Instance',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('mark', models.CharField(help_text='Is part of the names of its collections in Milvus.', max_length=16)),
                ('notice', models.TextField(blank=True, help_text='What belongs to others in Milvus and what to do, as it was found last.')),
            ],
        ),
        # The spaces that are there keep the names of their collections until these are adopted.
        migrations.AddField(
            model_name='embeddingspace',
            name='instance',
            field=models.CharField(default='', help_text="The instance's mark; empty while the collection has a name of the time before there were marks.", max_length=16),
        ),
        migrations.AlterField(
            model_name='embeddingspace',
            name='instance',
            field=models.CharField(default=embeddings.models.instance_mark, help_text="The instance's mark; empty while the collection has a name of the time before there were marks.", max_length=16),
        ),
    ]
