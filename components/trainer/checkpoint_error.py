"""The error of every checkpoint reader."""

from __future__ import annotations


class CheckpointError(ValueError):
    """Raised when an encoder folder or checkpoint cannot be read whole; the message names the file and the fault."""
