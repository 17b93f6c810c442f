"""What a reader returns: the texts of a file, and what it found out and did while reading."""

from __future__ import annotations

import dataclasses

from components.annotated_text import AnnotatedText


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The texts of one file.

    Args:
        texts: in the order of the file.
        notes: what was detected, and what was merged, cut or read leniently, with its number; nothing else is changed.
    """

    texts: tuple[AnnotatedText, ...]
    notes: tuple[str, ...] = ()
