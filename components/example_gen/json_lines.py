"""JSON lines with spans to annotated text."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from components.annotated_text import AnnotatedText, AnnotationError
from components.example_gen.corpus import Corpus
from components.example_gen.json_records import RawSpan, Record, parse_record
from components.example_gen.offsets import UNIT_WORDS, OffsetUnit, code_point_offsets, length_in
from components.example_gen.problems import Problems
from components.example_gen.settings import ReadingSettings
from components.example_gen.spans import SpanCounts, make_annotated_text, shorten

SpanEnd = Literal["exclusive", "inclusive"]
_UNITS: tuple[OffsetUnit, ...] = ("code_point", "utf16", "byte")
_ENDS: tuple[SpanEnd, ...] = ("exclusive", "inclusive")


def read_json_lines(lines: Sequence[str], name: str, settings: ReadingSettings) -> Corpus:
    """Returns the annotated texts of a file with one JSON object a line; blank lines are skipped.

    Whether ends are inclusive is found by evidence: where the spans of the file give their surfaces, the reading that
    fits more of them is taken. Without surfaces, ends are exclusive.

    Args:
        lines: of the file, without their ends.
        name: of the file, for messages and sources.
        settings: how to read.

    Raises:
        AnnotationError: with the first problems of the file, each with its line.

    Example:
        >>> line = '{"text": "叶老桂先生", "label": {"name": {"叶老桂": [[0, 2]]}}}'
        >>> read_json_lines([line], "a.jsonl", ReadingSettings()).texts[0].entities
        (Entity(start=0, end=3, type='name'),)
    """
    if (length := lines_of_object(lines)) > 1:
        number = next(number for number, line in enumerate(lines, start=1) if line.strip())
        raise AnnotationError(
            f"{name}:{number}: the JSON object stands on {length} lines (pretty-printed); expected one object a line; "
            f"write each on one line, for instance with `jq -c .`"
        )
    problems = Problems(name)
    records: list[Record] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records.append(parse_record(line, number))
        except AnnotationError as error:
            problems.add(number, str(error))
    if not records and not problems:
        raise AnnotationError(
            f"{name}:1: the corpus is empty: no line holds an object; expected one "
            f'{{"text": ..., "entities": [...]}} a line'
        )
    unit = settings.offset_unit
    detected = settings.span_end == "auto"
    span_end: SpanEnd = find_span_end(records, unit) if settings.span_end == "auto" else settings.span_end
    counts = SpanCounts()
    texts: list[AnnotatedText] = []
    mismatches = 0
    for record in records:
        spans, faults, surfaces_missed = _convert(record, unit, span_end)
        mismatches += surfaces_missed
        for fault in faults:
            problems.add(record.line, fault)
        annotated = make_annotated_text(
            identifier=record.identifier or f"{os.path.basename(name)}:{record.line}",
            text=record.text,
            spans=spans,
            name=name,
            line=record.line,
            trim_whitespace=settings.trim_whitespace,
            ignore_types=settings.ignore_types,
            problems=problems,
            counts=counts,
        )
        if annotated is not None:
            texts.append(annotated)
    if mismatches:
        _add_advice(records, unit, span_end, problems)
    problems.raise_if_any()
    note = f"span ends are {span_end}" + (" (detected)" if detected else "")
    return Corpus(tuple(texts), (note, *counts.notes()))


def lines_of_object(lines: Sequence[str]) -> int:
    """Returns how many lines the JSON object takes that the file begins with; 0 if it begins with none.

    Example:
        >>> lines_of_object(["{", '  "text": "a"', "}"])
        3
    """
    first = next((line for line in lines if line.strip()), "")
    if not first.lstrip().startswith("{"):
        return 0
    if _end_of_json(first.lstrip()) is not None:
        return 1
    text = "\n".join(lines).lstrip()
    end = _end_of_json(text)
    return 0 if end is None else text.count("\n", 0, end) + 1


def _end_of_json(text: str) -> int | None:
    try:
        return json.JSONDecoder().raw_decode(text)[1]
    except (ValueError, RecursionError):
        return None


def find_span_end(records: Iterable[Record], unit: OffsetUnit) -> SpanEnd:
    """Returns the reading of the ends under which more surfaces match; exclusive if they are equal."""
    matches = {end: count_matches(records, unit, end) for end in _ENDS}
    return "inclusive" if matches["inclusive"] > matches["exclusive"] else "exclusive"


def count_matches(records: Iterable[Record], unit: OffsetUnit, span_end: SpanEnd) -> int:
    """Returns how many spans match the surface that the file gives for them."""
    return sum(
        _slice(record.text, offsets) == span.surface
        for record in records
        for span, offsets in _offsets(record, unit, span_end)
        if span.surface is not None
    )


def _convert(record: Record, unit: OffsetUnit, span_end: SpanEnd) -> tuple[list[tuple[int, int, str]], list[str], int]:
    """Returns the spans in code points, the faults of the others, and how many surfaces do not match."""
    spans: list[tuple[int, int, str]] = []
    faults: list[str] = []
    mismatches = 0
    for span, offsets in _offsets(record, unit, span_end):
        start, end = offsets
        place = f"the span {_brackets(span, span_end)} {span.type}"
        if start is None or end is None:
            length = length_in(record.text, unit)
            inside = 0 <= span.start <= length and 0 <= span.end + (span_end == "inclusive") <= length
            fault = (
                "begins or ends inside a character"
                if inside
                else f"is outside the text, which has {length} {UNIT_WORDS[unit]}"
            )
            if span.surface is not None:
                mismatches += 1
                fault += f" (its surface is {shorten(span.surface)})"
            faults.append(f"{place} {fault}; mend the span, or set offset_unit or span_end")
        elif span.surface is not None and record.text[start:end] != span.surface:
            mismatches += 1
            faults.append(
                f"{place} covers {shorten(record.text[start:end])}, but its surface is {shorten(span.surface)}; "
                f"mend the span or the text"
            )
        else:
            spans.append((start, end, span.type))
    return spans, faults, mismatches


def _offsets(
    record: Record, unit: OffsetUnit, span_end: SpanEnd
) -> list[tuple[RawSpan, tuple[int | None, int | None]]]:
    to_code_point = code_point_offsets(record.text, unit)
    extra = int(span_end == "inclusive")
    if extra and unit != "code_point":
        # An inclusive end names the last character; its unit may be any of the character's.
        return [
            (span, (to_code_point(span.start), _end_of_character(to_code_point, span.end))) for span in record.spans
        ]
    return [(span, (to_code_point(span.start), to_code_point(span.end + extra))) for span in record.spans]


def _end_of_character(to_code_point: Callable[[int], int | None], last: int) -> int | None:
    # A character has 4 units at most.
    return next((end for ahead in range(1, 5) if (end := to_code_point(last + ahead)) is not None), None)


def _slice(text: str, offsets: tuple[int | None, int | None]) -> str | None:
    start, end = offsets
    return None if start is None or end is None else text[start:end]


def _brackets(span: RawSpan, span_end: SpanEnd) -> str:
    return f"[{span.start}, {span.end}{')' if span_end == 'exclusive' else ']'}"


def _add_advice(records: Sequence[Record], unit: OffsetUnit, span_end: SpanEnd, problems: Problems) -> None:
    """Adds what other settings would match more surfaces, if any."""
    given = sum(span.surface is not None for record in records for span in record.spans)
    matches = {reading: count_matches(records, *reading) for reading in itertools.product(_UNITS, _ENDS)}
    best = max(matches, key=lambda reading: matches[reading])
    if matches[best] > matches[unit, span_end]:
        problems.advise(
            f"offset_unit: {best[0]} with span_end: {best[1]} would fit {matches[best]} of {given} surfaces, "
            f"offset_unit: {unit} with span_end: {span_end} fits {matches[unit, span_end]}"
        )
