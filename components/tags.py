"""Tags and entities: the tag list of the model, and entities from tags in every scheme that corpora use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from components.annotated_text import AnnotationError, Entity

OUTSIDE = "O"

Scheme = Literal["BIO", "IOB1", "BIOES", "BMES"]


def tag_names(entity_types: Iterable[str]) -> tuple[str, ...]:
    """Returns the BIO tags of the model in id order: O is 0, then B and I of each type, types sorted.

    Example:
        >>> tag_names(["PER", "LOC"])
        ('O', 'B-LOC', 'I-LOC', 'B-PER', 'I-PER')
    """
    return (OUTSIDE, *(f"{prefix}-{name}" for name in sorted(set(entity_types)) for prefix in "BI"))


def split_tag(tag: str) -> tuple[str, str]:
    """Splits a tag into prefix and entity type; O has the type "".

    Raises:
        AnnotationError: the tag is not O and has no prefix B, I, E, S or M.

    Example:
        >>> split_tag("B-creative-work")
        ('B', 'creative-work')
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, separator, entity_type = tag.partition("-")
    if prefix not in ("B", "I", "E", "S", "M") or not separator or not entity_type:
        raise AnnotationError(f"expected O or B-, I-, E-, S- or M- with an entity type; received the tag {tag!r}")
    return prefix, entity_type
