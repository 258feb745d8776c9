from tests.instances import checkpoints, embedder, embedder_process

__all__ = ["checkpoints", "embedder", "embedder_process"]
