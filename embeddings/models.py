"""What is known of tracks, and the embeddings: hours of device time, kept where nothing is lost."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone


class Track(models.Model):
    """A track as the library showed it at the last scan. Its key is Navidrome's id."""

    id = models.CharField(primary_key=True, max_length=255)
    library_id = models.IntegerField()
    path = models.TextField(help_text="As MusicFolder has its library; ``places`` says where that is here.")
    title = models.TextField(blank=True)
    artist = models.TextField(blank=True, help_text="Display name of the artist.")
    album = models.TextField(blank=True)
    genre = models.TextField(blank=True)
    duration = models.FloatField(help_text="Seconds, as the library declares them.")
    size = models.BigIntegerField(help_text="Bytes.")
    mtime = models.CharField(max_length=64, help_text="The library's text for the last change; compared, not parsed.")
    playable = models.BooleanField(help_text="Present in the library and not marked missing.")
    away_since = models.DateTimeField(
        null=True, help_text="When it was first not there. Null when it is playable, or deleted from the library."
    )
    scan = models.IntegerField(help_text="Number of the scan that saw the track last.")

    class Meta:
        indexes = [
            models.Index(fields=["playable", "id"], name="track_playable"),
            # Finds the file that a new id is for; not by path, which PostgreSQL's indexes may not hold.
            models.Index(fields=["size"], condition=Q(playable=False), name="track_gone"),
        ]

    def __str__(self) -> str:
        return f"{self.artist} - {self.title}" if self.artist else self.title


class MusicFolder(models.Model):
    """The folder of a library, as tracks' paths have it."""

    library_id = models.IntegerField(primary_key=True)
    path = models.TextField()
    host = models.CharField(max_length=16, help_text="Key of the host that sees it there; others may see it elsewhere.")

    def __str__(self) -> str:
        return self.path


class BadFile(models.Model):
    """A file that a model could not embed, as it was then. Jobs leave it alone until it changes or somebody asks.

    Written in the transaction that fails the track, deleted in the one that brings its vector.
    """

    track = models.ForeignKey(Track, models.CASCADE, related_name="bad_files")
    model = models.CharField(max_length=32)
    size = models.BigIntegerField()
    mtime = models.CharField(max_length=64)
    fingerprint = models.CharField(
        max_length=64, blank=True, help_text="Of the space it failed for; empty when the file itself cannot be decoded."
    )
    error_class = models.CharField(max_length=64)
    error_message = models.TextField()
    failed_at = models.DateTimeField(auto_now=True)
    ignored = models.BooleanField(default=False, help_text="Acknowledged: not counted as failed any more.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["track", "model"], name="one_bad_file_per_track_and_model")]

    def __str__(self) -> str:
        return f"{self.track} with {self.model}: {self.error_message}"


class Instance(models.Model):
    """This database, as others know it that use the same Milvus: one row, made when it is first asked for.

    A backup carries it: a copy is the same instance, and ``embeddings.index.ownership`` lets only one of
    them at the index.
    """

    mark = models.CharField(max_length=16, help_text="Is part of the names of its collections in Milvus.")
    notice = models.TextField(
        blank=True, help_text="What belongs to others in Milvus and what to do, as it was found last."
    )
    looked_at = models.DateTimeField(null=True, help_text="When the whole library was last read.")

    def __str__(self) -> str:
        return self.mark


def instance() -> Instance:
    """Return the row; of processes that make it at the same time one wins."""
    return Instance.objects.get_or_create(pk=1, defaults={"mark": secrets.token_hex(4)})[0]


def instance_mark() -> str:
    return instance().mark


class EmbeddingSpace(models.Model):
    """Vectors that may be compared with each other: one model, one fingerprint, one collection.

    building → live ⇄ kept; building, kept and an empty live one → dropping, and then they are gone. A model has
    at most one live, one building and one kept space; search uses the live one's physical collection. Only
    ``embeddings.spaces.lifecycle`` changes the status.
    """

    class Status(models.TextChoices):
        BUILDING = "building"  # filled beside the live one; search does not see it
        LIVE = "live"  # what search uses
        KEPT = "kept"  # was live; kept for a way back
        DROPPING = "dropping"  # its disk is given back, step by step; nobody uses it any more

    model = models.CharField(max_length=32)
    dimension = models.PositiveIntegerField()
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 over the recipe.")
    instance = models.CharField(
        max_length=16,
        default=instance_mark,
        help_text="The instance's mark; empty while the collection has a name of the time before there were marks.",
    )
    recipe = models.JSONField(help_text="What decides a vector's value: weights, rates, window, hop, versions.")
    status = models.CharField(max_length=16, choices=Status)
    created_at = models.DateTimeField(auto_now_add=True)
    kept_at = models.DateTimeField(null=True, help_text="When another one became live in its place.")
    calibration = models.JSONField(null=True, help_text="What cosines mean here; see embeddings.search.calibration.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model"], condition=Q(status="live"), name="one_live_space_per_model"),
            models.UniqueConstraint(
                fields=["model"], condition=Q(status="building"), name="one_building_space_per_model"
            ),
            models.UniqueConstraint(fields=["model"], condition=Q(status="kept"), name="one_kept_space_per_model"),
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.fingerprint[:8]} ({self.status})"

    @property
    def collection(self) -> str:
        """Name of the physical collection in Milvus."""
        names = ("navembed", self.instance, self.model, str(self.pk), self.fingerprint[:8])
        return "_".join(filter(None, names))

    @property
    def kept_until(self) -> datetime | None:
        """When its disk is given back; None unless it is kept."""
        if self.status != self.Status.KEPT or not self.kept_at:
            return None
        return self.kept_at + timedelta(days=settings.KEEP_SPACES_DAYS)


class Embedding(models.Model):
    """One track's vector in one space, and what the file was like when it was computed."""

    class IndexState(models.TextChoices):
        PENDING = "pending"  # Milvus does not have it yet
        INDEXED = "indexed"  # Milvus has acknowledged and flushed it
        DELETING = "deleting"  # to be removed from Milvus, then here

    space = models.ForeignKey(EmbeddingSpace, models.CASCADE, related_name="embeddings")
    # The vector outlives its track's row: a new id for the same audio takes it over.
    track = models.ForeignKey(Track, models.DO_NOTHING, db_constraint=False, related_name="embeddings")
    windows = models.PositiveIntegerField()
    audio_seconds = models.FloatField()
    size = models.BigIntegerField()
    mtime = models.CharField(max_length=64)
    audio_hash = models.CharField(
        max_length=64, help_text="SHA-256 over the audio stream's packets; tags do not matter."
    )
    index_state = models.CharField(max_length=8, choices=IndexState, default=IndexState.PENDING)
    updated_at = models.DateTimeField(auto_now=True)
    # Last, so that SQLite reads the columns before it without the pages of the vector.
    vector = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["space", "track"], name="one_embedding_per_space_and_track")]
        indexes = [
            models.Index(fields=["space", "id"], condition=~Q(index_state="indexed"), name="embedding_not_indexed"),
            models.Index(fields=["audio_hash"], name="embedding_audio_hash"),
            # All that a scan of the whole space asks for: else it reads a page for each vector.
            models.Index(fields=["space", "track", "size", "mtime", "index_state"], name="embedding_file"),
        ]

    def __str__(self) -> str:
        return f"{self.track_id} in space {self.space_id}"


class SpaceMap(models.Model):
    """A picture of a space: where each of its tracks lies, by the key of its embedding, which follows new ids.

    Arrays as bytes, little-endian, in the order of ``keys``; one that could not be made is empty.
    """

    space = models.OneToOneField(EmbeddingSpace, models.CASCADE, related_name="map")
    made_at = models.DateTimeField(auto_now=True)
    tracks = models.PositiveIntegerField()
    keys = models.BinaryField(help_text="int64 [tracks]: keys of embeddings, ascending.")
    pca = models.BinaryField(help_text="float32 [tracks, 2]")
    umap = models.BinaryField(help_text="float32 [tracks, 2]")
    clusters = models.BinaryField(help_text="uint8 [tracks]")

    def __str__(self) -> str:
        return f"map of {self.space}"


class DuplicatePair(models.Model):
    """Two tracks with the same recording, as far as that can be heard: a suggestion."""

    one = models.ForeignKey(Track, models.CASCADE, related_name="+", help_text="The one with the lesser id.")
    other = models.ForeignKey(Track, models.CASCADE, related_name="+")
    similarity = models.JSONField(help_text="Cosine by model, of those that know both.")
    same_audio = models.BooleanField(help_text="The audio is the same bit by bit.")
    rejected = models.BooleanField(default=False, help_text="Somebody has said that they are no duplicates.")
    found_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["one", "other"], name="one_pair_of_two_tracks")]

    def __str__(self) -> str:
        return f"{self.one_id} and {self.other_id}"


class DuplicateLook(models.Model):
    """How far the library has been looked through for duplicates: one row, made when somebody first asks."""

    space_key = models.BigIntegerField(null=True, help_text="Of the space whose embeddings were looked at.")
    until = models.DateTimeField(null=True, help_text="Embeddings that changed before have been looked at.")
    last_key = models.BigIntegerField(default=0, help_text="Of those that changed at that moment, up to this key.")
    looked_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"looked at until {self.until}"


class UploadEmbedding(models.Model):
    """The vector of an uploaded file, which the library does not have yet: in the database only, not in Milvus.

    A job that finds the same audio in the library takes it over (``embeddings.spaces.reuse``); what nobody has
    taken over is forgotten after a week (``embeddings.uploads.kept``).
    """

    model = models.CharField(max_length=32)
    fingerprint = models.CharField(max_length=64, help_text="Of the weights and the recipe: that of its space.")
    audio_hash = models.CharField(max_length=64, help_text="As an embedding's: tags and moves do not matter.")
    name = models.TextField(help_text="What the file was called by those who uploaded it.")
    windows = models.PositiveIntegerField()
    audio_seconds = models.FloatField()
    created_at = models.DateTimeField(default=timezone.now)
    accepted_at = models.DateTimeField(
        null=True, help_text="When its sender was last told to copy it. Null: it was a duplicate whenever it came."
    )
    sound = models.BinaryField(default=b"", help_text="Its acoustic fingerprint, where duplicates were asked for.")
    vector = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["fingerprint", "audio_hash"], name="one_upload_per_fingerprint_and_audio")
        ]
        indexes = [
            models.Index(fields=["created_at"], name="upload_embedding_created_at"),
            models.Index(fields=["accepted_at"], name="upload_embedding_accepted_at"),
        ]

    def __str__(self) -> str:
        return f"{self.name} with {self.model}"


class Upload(models.Model):
    """An upload and what became of it; kept for a month, for those who look."""

    name = models.TextField(help_text="What the file was called by those who uploaded it.")
    received_at = models.DateTimeField(auto_now_add=True)
    seconds = models.FloatField(help_text="Until it was answered.")
    accepted = models.BooleanField(help_text="False when the answer was an error.")
    answer = models.JSONField(help_text="As it was given.")

    class Meta:
        indexes = [models.Index(fields=["received_at"], name="upload_received_at")]

    def __str__(self) -> str:
        return self.name


class Playlist(models.Model):
    """A playlist that we keep in a music server: what it is made of, when it is made anew, and what became of it."""

    class Schedule(models.TextChoices):
        ONCE = "once"  # and again when somebody asks
        DAILY = "daily"
        WEEKLY = "weekly"

    name = models.CharField(max_length=200, help_text="Its name when it is made; the server's may be changed there.")
    user = models.CharField(max_length=200, help_text="Whose it is in the server, by the name they sign in with.")
    recipe = models.JSONField(help_text="What it is made of beside tracks; see embeddings.playlists.recipe.")
    schedule = models.CharField(max_length=8, choices=Schedule, default=Schedule.ONCE)
    due_at = models.DateTimeField(null=True, help_text="When it is to be made anew. Null: only when somebody asks.")
    made_at = models.DateTimeField(null=True, help_text="When its tracks were last chosen.")
    pending = models.BooleanField(default=False, help_text="The server does not have the tracks that were chosen yet.")
    server_id = models.CharField(max_length=255, blank=True, help_text="Its id in the server, once it is there.")
    problem = models.TextField(blank=True, help_text="Why it could not be made, or brought to the server, last.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="one_playlist_per_user_and_name")]

    def __str__(self) -> str:
        return self.name


class PlaylistTrack(models.Model):
    """A track that a playlist starts from, keeps away from, or holds."""

    class Role(models.TextChoices):
        LIKE = "like"
        UNLIKE = "unlike"
        PATH = "path"  # where it begins, and where it ends
        CLUSTER = "cluster"  # whose group on the map it is
        HELD = "held"

    playlist = models.ForeignKey(Playlist, models.CASCADE, related_name="tracks")
    role = models.CharField(max_length=8, choices=Role)
    place = models.PositiveIntegerField()
    # It outlives its track's row: a new id for the same file takes its place.
    track = models.ForeignKey(Track, models.DO_NOTHING, db_constraint=False, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["playlist", "role", "place"], name="one_playlist_track_per_place")
        ]

    def __str__(self) -> str:
        return f"{self.track_id} in playlist {self.playlist_id}"


class Listener(models.Model):
    """What the plugin in Navidrome tells of a user of playlists whom we cannot sign in as."""

    user = models.CharField(max_length=200, unique=True, help_text="As their playlists have it.")
    libraries = models.JSONField(help_text="Ids of those that the user may see.")
    starred = models.JSONField(help_text="Ids of the tracks that the user has starred, the newest first.")
    told_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.user
