"""What the hub lists of the checkpoints that the recipes were written for: revisions, sizes, SHA-256.

Everything that is known without a network stands here. A source may say another revision: ``owner/name@revision``.
"""

from __future__ import annotations

from typing import NamedTuple


class PublishedFile(NamedTuple):
    """A file that we need. ``sha256`` is told of weights, where it is known."""

    bytes: int
    sha256: str = ""


class Repository(NamedTuple):
    """A checkpoint on the hub."""

    revision: str
    """The commit that is taken unless a source says another; empty where none is known."""
    files: dict[str, PublishedFile]
    parts: tuple[str, ...] = ()
    """Other checkpoints that its config names."""


REPOSITORIES = {
    "OpenMuQ/MuQ-MuLan-large": Repository(
        "2e01c796b71dca71b45251384c04cd7b237c9020",
        {
            "config.json": PublishedFile(847),
            "pytorch_model.bin": PublishedFile(
                2_653_954_401, "d42ae3f7cb9b66759ee0089ddc70e2f28b130c2d8ba621457358272d32dd0444"
            ),
        },
        parts=("OpenMuQ/MuQ-large-msd-iter", "FacebookAI/xlm-roberta-base"),
    ),
    "OpenMuQ/MuQ-large-msd-iter": Repository(
        "0562a57814f6f8bbd9fdea0a25921a2fce1a841a", {"config.json": PublishedFile(3_133)}
    ),
    "FacebookAI/xlm-roberta-base": Repository(
        "e73636d4f797dec63c3081bb6ed5c7b0bb3f2089",
        {
            "config.json": PublishedFile(615),
            "tokenizer.json": PublishedFile(9_096_718),
            "tokenizer_config.json": PublishedFile(25),
        },
    ),
    "m-a-p/MERT-v1-330M": Repository(
        "5240c2708a5acaee1007f43fb9735c7dcd0b78c9",
        {
            "config.json": PublishedFile(2_031),
            "preprocessor_config.json": PublishedFile(211),
            "pytorch_model.bin": PublishedFile(
                1_261_849_817, "0c03774d821a6ad972cb48220b128a10ebea2c790116bd0fd35e5a013f8017f6"
            ),
        },
    ),
    "SonyCSLParis/music2latent": Repository("", {"music2latent.pt": PublishedFile(233_000_000)}),
}
OTHER_NAMES = {"xlm-roberta-base": "FacebookAI/xlm-roberta-base"}
"""Former names, from which the hub redirects; a config or a cache may know either."""


def split(source: str) -> tuple[str, str]:
    """Return name and revision of a hub id ``owner/name@revision``; the revision is empty where none is said."""
    name, _, revision = source.partition("@")
    return name, revision


def names(name: str) -> list[str]:
    """Return the names under which a checkpoint may lie in a cache, ``name`` first."""
    others = [pair for pair in OTHER_NAMES.items() if name in pair]
    return list(dict.fromkeys([name, *(other for pair in others for other in pair)]))


def repository(name: str) -> Repository:
    """Return what is known of a checkpoint under any of its names; nothing of somebody else's."""
    return next((REPOSITORIES[known] for known in names(name) if known in REPOSITORIES), Repository("", {}))


def files(name: str) -> tuple[tuple[str, ...], ...]:
    """Return the files that we need of a checkpoint, in the form of ``Encoder.files``."""
    return tuple((file,) for file in repository(name).files)


def is_published(source: str, file: str, digest: str) -> bool | None:
    """Whether a file of ``source`` is the one that was published.

    None where nobody has told its hash; and where it is another, but another is what the source asks for.
    """
    if any(digest == each.sha256 for known in REPOSITORIES.values() for each in known.files.values()):
        return True
    name, revision = split(source)
    known = repository(name).files.get(file)
    return False if known and known.sha256 and not revision else None
