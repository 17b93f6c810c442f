"""Label lists as tables: which label may follow which, where entities begin, and what the pieces of a word carry.

Our own models have the labels O, B-x, I-x, B-y, I-y, ..; models from elsewhere have others, in any order.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from components.annotated_text import AnnotationError
from components.tags import OUTSIDE, Scheme, entities_from_tags, split_tag, tag_role

# Labels that the pieces of a word get after its first one: BERT's own recipe for tagging, and a variant of it.
CONTINUATION_LABELS = ("X", "[##WordPiece]")

# Labels of padding and of BERT's special tokens: [PAD], [CLS], [SEP], <pad>, .. No text is annotated with them.
_SPECIAL = re.compile(r"\[.*\]|<.*>")


class LabelError(ValueError):
    """Raised when a list of labels cannot be decoded; the message names the label and what is expected."""


@dataclasses.dataclass(frozen=True, eq=False)
class LabelScheme:
    """What the decoder knows of K labels; in the tables the index K is the place before and after a text.

    Attributes:
        labels: the labels in id order.
        types: the entity types in the order in which the labels name them first.
        outside_id: the id of O.
        type_ids: int32 [K], the index of each label's type; -1 outside of entities.
        allowed: bool [K+1, K+1], which label may follow which, from row to column.
        begins: bool [K+1, K], whether a label that follows another begins an entity.
        continued: int32 [K], the label of the pieces of a word behind its first one, by the label of the first.
        has_continuation_label: whether these pieces have a label of their own, which says nothing of entities.
    """

    labels: tuple[str, ...]
    types: tuple[str, ...]
    outside_id: int
    type_ids: np.ndarray
    allowed: np.ndarray
    begins: np.ndarray
    continued: np.ndarray
    has_continuation_label: bool


def label_scheme(labels: Sequence[str], *, iob1: bool = False) -> LabelScheme:
    """Returns the tables for a list of labels.

    BIO, BIOES (also as BIOUL), BMES and their relatives without S or without E follow one rule: an entity begins with
    B or S; it goes on with I or E after B or I; it ends at S, at E, at I if its type has no E, and at B if its type has
    no S. In IOB1 everything may follow everything. [PAD], [CLS], [SEP] and the like stand where O may stand. The
    continuation label, "X" or "[##WordPiece]", never stands at the beginning of a word.

    Args:
        labels: the labels in id order, in any order.
        iob1: whether I begins an entity after O or another type. Without it, that is so if some type has I and no B.

    Raises:
        LabelError: a label is unknown or stands twice, schemes are mixed, no label begins the entities of a type, or O
            or all entity types are missing.

    Example:
        >>> label_scheme(("[PAD]", "B-PER", "I-PER", "O", "X")).outside_id
        3
    """
    tags, continuation = _as_tags(labels)
    scheme = _written_scheme(tags, iob1=iob1)
    roles, types_of = zip(*(tag_role(tag) for tag in tags), strict=True)
    types = tuple(dict.fromkeys(name for name in types_of if name))
    count = len(labels)

    has = set(zip(roles, types_of, strict=True))
    starting = {OUTSIDE, "B", "S"} | ({"I"} if scheme == "IOB1" else set())
    # A type that has S writes no entity as a lone B, and one that has E ends none with I.
    closed_by = {"B": "S", "I": "E"}
    may_start = [role in starting for role in roles] + [True]
    may_end = [(closed_by.get(role), name) not in has for role, name in zip(roles, types_of, strict=True)] + [True]
    # A type that can begin can end: at S, or without S at B.
    for name in types:
        if not any((role, name) in has for role in starting):
            written = [tag for tag in tags if split_tag(tag)[1] == name]
            raise LabelError(
                f"the type {name} has {' and '.join(written)}, with which no entity begins; expected B-{name} or "
                f"S-{name} as well"
            )
    allowed = np.array(may_end)[:, np.newaxis] & np.array(may_start)  # [K+1, K+1]
    begins = np.zeros((count + 1, count), dtype=bool)
    for before, tag in np.ndindex(count + 1, count):
        pair = (OUTSIDE if before == count else tags[before], tags[tag])
        begins[before, tag] = any(first == 1 for first, _, _ in entities_from_tags(pair, scheme))
        if before < count and types_of[before] == types_of[tag] and roles[before] in "BI" and roles[tag] in "IE":
            allowed[before, tag] = True
    allowed[count, count] = False
    if continuation is not None:
        allowed[continuation, :] = allowed[:, continuation] = False

    inside = {types_of[index]: index for index in range(count) if roles[index] == "I"}
    return LabelScheme(
        labels=tuple(labels),
        types=types,
        outside_id=labels.index(OUTSIDE),
        type_ids=np.array([types.index(name) if name else -1 for name in types_of], np.int32),
        allowed=allowed,
        begins=begins,
        continued=np.array(
            [
                continuation if continuation is not None else inside.get(types_of[index], index)
                for index in range(count)
            ],
            np.int32,
        ),
        has_continuation_label=continuation is not None,
    )


def bio_scheme(tag_count: int) -> LabelScheme:
    """Returns the tables of the labels O, B-x, I-x, B-y, I-y, .., whatever the types are called."""
    return label_scheme((OUTSIDE, *(f"{prefix}-{index}" for index in range(tag_count // 2) for prefix in "BI")))


def _as_tags(labels: Sequence[str]) -> tuple[list[str], int | None]:
    """Returns the labels with O for the special ones, and the id of the continuation label."""
    for index, label in enumerate(labels):
        if label in labels[:index]:
            raise LabelError(f"the label {label!r} stands twice, as {labels.index(label)} and as {index}")
    continuations = [label for label in labels if label in CONTINUATION_LABELS]
    if len(continuations) > 1:
        raise LabelError(f"expected at most one label for the later pieces of a word; found {', '.join(continuations)}")
    tags = [OUTSIDE if label in continuations or _SPECIAL.fullmatch(label) else label for label in labels]
    for index, tag in enumerate(tags):
        try:
            split_tag(tag)
        except AnnotationError:
            raise LabelError(
                f"the label {index}, {tag!r}, is unknown; expected O, an entity type behind B-, I-, E-, S-, M-, U- or "
                f"L-, a special label in brackets such as [PAD], or {' or '.join(CONTINUATION_LABELS)}"
            ) from None
    if OUTSIDE not in labels:
        raise LabelError(f"the label {OUTSIDE} is missing; received {', '.join(labels) or 'none'}")
    if all(tag == OUTSIDE for tag in tags):
        raise LabelError(f"no label names an entity type; received {', '.join(labels)}")
    return tags, labels.index(continuations[0]) if continuations else None


def _written_scheme(tags: Sequence[str], *, iob1: bool) -> Scheme:
    """Returns the scheme in which the labels are written."""
    split = {split_tag(tag) for tag in tags}
    prefixes = {prefix for prefix, _ in split} - {OUTSIDE}
    if prefixes <= {"B", "I"}:
        only_inside = any(prefix == "I" and ("B", name) not in split for prefix, name in split)
        return "IOB1" if iob1 or only_inside else "BIO"
    if iob1:
        raise LabelError(f"IOB1 has the labels O, B- and I-; these have {', '.join(sorted(prefixes))}")
    if "M" not in prefixes:
        return "BIOES"
    if not prefixes <= set("BMES"):
        raise LabelError(f"labels of several schemes are mixed: {', '.join(sorted(prefixes))}; BMES has B, M, E, S")
    return "BMES"
