"""Which split a text belongs to."""

from __future__ import annotations

import hashlib

# A hash is read as a fraction of this.
_HASH_RANGE = 2**64


def text_key(text: str) -> str:
    """Returns a stable key of `text`: equal texts have equal keys on every machine and in every run."""
    return hashlib.sha256(text.encode()).hexdigest()


def cut_split(text: str, *, dev_fraction: float, test_fraction: float) -> str:
    """Returns the split of a text of the training file: "train", "dev" or "test".

    The text alone decides, so duplicates stay together, and a text keeps its split when others come or go. Whether test
    is also cut does not move a text into or out of dev.

    Args:
        text: the text.
        dev_fraction: share of the texts that become dev; 0 where a dev file is given.
        test_fraction: likewise for test.
    """
    place = int(text_key(text)[:16], 16) / _HASH_RANGE
    if place < dev_fraction:
        return "dev"
    if place >= 1 - test_fraction:
        return "test"
    return "train"
