"""The contract's routes for texts and music. No trailing slash: a redirect would turn a POST into a GET."""

from django.urls import path

from embeddings.api.contract.embed_audio import EmbedAudioView
from embeddings.api.contract.models import EmbedTextView, HealthView, ModelsView
from embeddings.api.contract.playlist import PlaylistView

urlpatterns = [
    path("embed_text", EmbedTextView.as_view(), name="embed-text"),
    path("embed/audio", EmbedAudioView.as_view(), name="embed-audio"),
    path("models", ModelsView.as_view(), name="models"),
    path("health", HealthView.as_view(), name="health"),
    path("playlist/<str:mode>", PlaylistView.as_view(), name="playlist"),
]
