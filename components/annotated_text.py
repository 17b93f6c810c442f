"""Annotated text: what the readers produce and every later step consumes."""

from __future__ import annotations

import dataclasses


class AnnotationError(ValueError):
    """Raised when annotated text breaks a rule; the message names the place (file:line), the fault and the remedy."""


@dataclasses.dataclass(frozen=True, order=True)
class Entity:
    """A named entity: `text[start:end]` in code points, end exclusive, and its type.

    Raises:
        AnnotationError: the span is empty or negative, or the type is empty.

    Example:
        >>> Entity(0, 2, "LOC")
        Entity(start=0, end=2, type='LOC')
    """

    start: int
    end: int
    type: str

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise AnnotationError(f"an entity needs 0 <= start < end; received start {self.start}, end {self.end}")
        if not self.type:
            raise AnnotationError(f"the entity [{self.start}, {self.end}) has no type")


@dataclasses.dataclass(frozen=True)
class AnnotatedText:
    """A text with its entities, sorted by position; entities do not overlap and lie inside the text.

    Args:
        id: identifies the text within its corpus.
        text: the text exactly as the user wrote it; offsets count its code points.
        entities: the gold entities.
        source: where the text stands, as `file:line`.

    Raises:
        AnnotationError: an entity leaves the text or overlaps its neighbour.
    """

    id: str
    text: str
    entities: tuple[Entity, ...]
    source: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "entities", tuple(sorted(self.entities)))
        previous_end = 0
        for entity in self.entities:
            if entity.end > len(self.text):
                raise AnnotationError(
                    f"{self.source}: the entity [{entity.start}, {entity.end}) {entity.type} leaves the text, "
                    f"which has {len(self.text)} code points; offsets count code points and end is exclusive"
                )
            if entity.start < previous_end:
                raise AnnotationError(
                    f"{self.source}: the entity [{entity.start}, {entity.end}) {entity.type} overlaps its "
                    f"predecessor, which ends at {previous_end}; give each code point one entity at most"
                )
            previous_end = entity.end
