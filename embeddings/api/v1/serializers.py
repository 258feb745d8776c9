"""What tracks look like wherever they are named."""

from __future__ import annotations

from rest_framework import serializers

from embeddings.models import Track


class TrackNameSerializer(serializers.ModelSerializer[Track]):
    """A track as a person knows it."""

    class Meta:
        model = Track
        fields = ["id", "title", "artist", "album", "path"]
        read_only_fields = fields
