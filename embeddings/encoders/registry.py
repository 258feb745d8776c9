"""The models that exist. A fourth one is a new file and a line here; nothing else names a model."""

from embeddings.encoders.base import Encoder, TextModel
from embeddings.encoders.latent import LatentEncoder
from embeddings.encoders.mert import MertEncoder
from embeddings.encoders.muq import MuqEncoder
from embeddings.encoders.muq_text import MuqText

ENCODERS: tuple[type[Encoder], ...] = (MuqEncoder, MertEncoder, LatentEncoder)
MODEL_KEYS: tuple[str, ...] = tuple(encoder.key for encoder in ENCODERS)
TEXT_MODEL: type[TextModel] = MuqText


def encoder_class(key: str) -> type[Encoder]:
    """Return the encoder named ``key``. Raises KeyError."""
    return {encoder.key: encoder for encoder in ENCODERS}[key]
