"""Why a call of ours to another server failed, in words that may be shown and logged."""

from __future__ import annotations


def reason_of(error: BaseException) -> str:
    """Say why, without the error's text: it may repeat the address, which may hold a secret."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
