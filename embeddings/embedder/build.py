"""Puts an embedder together from the settings."""

from __future__ import annotations

import logging
import os

from django.conf import settings

from embeddings.audio.pool import DecodePool
from embeddings.audio.summary import Limits
from embeddings.embedder.device import choose_device, free_memory
from embeddings.embedder.embedder import Embedder
from embeddings.embedder.model_manager import ModelManager
from embeddings.encoders.base import Model
from embeddings.encoders.registry import ENCODERS, TEXT_MODEL
from embeddings.weights.locate import use_folders

logger = logging.getLogger(__name__)


def build_embedder(device_name: str) -> Embedder:
    """Return an embedder on ``device_name`` with all registered models, none loaded yet."""
    # Threads that spin while they wait take the cores from the decoders: four times slower on two cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    use_folders(checkpoints=settings.CHECKPOINT_DIR, cache=settings.CACHE_DIR)
    device = choose_device(device_name)
    budget = settings.DEVICE_MEMORY_GB * 2**30 or free_memory(device)
    logger.info("device %s, %.1f GB for models", device, budget / 2**30)
    models: list[Model] = [encoder(settings.MODEL_SOURCES[encoder.key], device) for encoder in ENCODERS]
    models.append(TEXT_MODEL(settings.MODEL_SOURCES[TEXT_MODEL.audio_model], device))
    manager = ModelManager(
        {model.key: model for model in models},
        memory_bytes=budget,
        idle_seconds=settings.MODEL_IDLE_SECONDS,
    )
    limits = Limits(settings.MIN_DECODED, settings.MAX_HOURS)
    pool = DecodePool(settings.DECODE_PROCESSES, limits=limits)
    return Embedder(manager, pool, settings.CACHE_DIR / "spool")
