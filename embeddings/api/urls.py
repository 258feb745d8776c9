"""The contract's routes about models and texts. No trailing slash: a redirect would turn a POST into a GET."""

from django.urls import path

from embeddings.api.contract import EmbedTextView, HealthView, ModelsView

urlpatterns = [
    path("embed_text", EmbedTextView.as_view()),
    path("models", ModelsView.as_view()),
    path("health", HealthView.as_view()),
]
