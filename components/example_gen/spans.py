"""Checks that spans fit their text, in the same words for every format."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from components.annotated_text import AnnotatedText, Entity
from components.example_gen.problems import Problems

SHOWN_CHARACTERS = 40


@dataclasses.dataclass
class SpanCounts:
    """How many spans of a file were not taken as they stand."""

    merged: int = 0
    trimmed: int = 0
    ignored: int = 0

    def notes(self) -> list[str]:
        """Returns a sentence for each number that is not 0."""
        sentences = {
            "{} duplicate spans (same place, same type) were merged": self.merged,
            "{} spans had white space at their edges, which was cut off": self.trimmed,
            "{} spans have a type of ignore_types and were left out": self.ignored,
        }
        return [sentence.format(count) for sentence, count in sentences.items() if count]


def make_annotated_text(
    *,
    identifier: str,
    text: str,
    spans: Iterable[tuple[int, int, str]],
    name: str,
    line: int,
    trim_whitespace: bool,
    ignore_types: tuple[str, ...],
    problems: Problems,
    counts: SpanCounts,
) -> AnnotatedText | None:
    """Returns the text with its spans as entities, or None after adding every fault to `problems`.

    Args:
        identifier: of the text.
        text: the text itself.
        spans: (start, end exclusive, type) in code points, in any order.
        name, line: where the text stands.
        trim_whitespace: cut white space off a span's edges, instead of refusing it.
        ignore_types: types whose spans are left out.
        problems: receives the faults.
        counts: receives what was merged, trimmed and left out.
    """
    before = len(problems)
    if (surrogate := first_surrogate(text)) is not None:
        problems.add(line, surrogate_fault("the text", text, surrogate))
        return None
    entities: set[Entity] = set()
    for start, end, entity_type in spans:
        if fault := _type_fault(entity_type):
            problems.add(line, f"the span [{start}, {end}) has {fault}")
            continue
        if entity_type in ignore_types:
            counts.ignored += 1
            continue
        if fault := _place_fault(start, end, entity_type, text):
            problems.add(line, fault)
            continue
        surface = text[start:end]
        if surface != surface.strip():
            if not trim_whitespace or not surface.strip():
                problems.add(
                    line,
                    f"the span [{start}, {end}) {entity_type} has white space at its edges: {shorten(surface)}; "
                    f"expected a span without it; mend the span, or set trim_whitespace: true",
                )
                continue
            counts.trimmed += 1
            start += len(surface) - len(surface.lstrip())
            end -= len(surface) - len(surface.rstrip())
        entity = Entity(start, end, entity_type)
        counts.merged += entity in entities
        entities.add(entity)
    ordered = sorted(entities)
    furthest: Entity | None = None
    for entity in ordered:
        if furthest is not None and entity.start < furthest.end:
            problems.add(
                line,
                f"the spans {_describe(furthest, text)} and {_describe(entity, text)} overlap; expected spans that do "
                f"not; keep one of them",
            )
        if furthest is None or entity.end > furthest.end:
            furthest = entity
    if len(problems) > before:
        return None
    return AnnotatedText(identifier, text, tuple(ordered), f"{name}:{line}")


def first_surrogate(text: str) -> int | None:
    """Returns the index of the first surrogate in `text`, or None. JSON escapes can leave one."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None


def surrogate_fault(what: str, text: str, surrogate: int) -> str:
    """Returns what is wrong with a text that `what` names and that has a surrogate at the index `surrogate`."""
    return (
        f"{what} has the unpaired surrogate U+{ord(text[surrogate]):04X} at code point {surrogate}, which is no "
        f"character; mend the program that wrote the file (half of an emoji was cut off)"
    )


def shorten(text: str) -> str:
    """Returns `text` quoted, cut to a length that fits a message."""
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…")


def _describe(entity: Entity, text: str) -> str:
    return f"[{entity.start}, {entity.end}) {entity.type} {shorten(text[entity.start : entity.end])}"


def _type_fault(entity_type: str) -> str | None:
    if not entity_type or entity_type != entity_type.strip() or not entity_type.isprintable():
        return (
            f"the type {entity_type!r}; expected a name without white space at its edges and without control "
            f"characters, such as PER"
        )
    return None


def _place_fault(start: int, end: int, entity_type: str, text: str) -> str | None:
    if start >= end:
        return (
            f"the span [{start}, {end}) {entity_type} is empty; expected start < end, as ends are exclusive; "
            f"if the file's ends are inclusive, set span_end: inclusive"
        )
    if start < 0 or end > len(text):
        return (
            f"the span [{start}, {end}) {entity_type} is outside the text, which has {len(text)} code points; mend the "
            f"span; if the offsets count UTF-16 units or bytes, set offset_unit"
        )
    return None
