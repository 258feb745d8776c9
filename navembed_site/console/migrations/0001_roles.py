"""Nothing of its own: it lets an instance that is brought up to date make the roles, as a new one does."""

from django.db import migrations


class Migration(migrations.Migration):
    initial = True
    dependencies = [("auth", "0012_alter_user_first_name_max_length"), ("contenttypes", "0002_remove_content_type_name")]
    operations = []
