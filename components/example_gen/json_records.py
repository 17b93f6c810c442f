"""A line of JSON to a record of text and raw spans: the shapes that annotation tools write."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from components.annotated_text import AnnotationError
from components.example_gen.spans import first_surrogate, shorten, surrogate_fault

ANNOTATION_KEYS = ("entities", "spans", "label", "labels")
_START_KEYS = ("start", "start_offset")
_END_KEYS = ("end", "end_offset")
_TYPE_KEYS = ("type", "label")
_SURFACE_KEYS = ("text", "surface")
_EXPECTED = 'expected {"text": ..., "entities": [{"start": 0, "end": 2, "type": "PER"}]}'


@dataclasses.dataclass(frozen=True)
class RawSpan:
    """A span as the file has it: its offsets may count other units, and its end may be inclusive."""

    start: int
    end: int
    type: str
    surface: str | None = None


@dataclasses.dataclass(frozen=True)
class Record:
    """A line of the file, counted from 1: its text and spans."""

    line: int
    text: str
    spans: tuple[RawSpan, ...]
    identifier: str | None = None


def parse_record(line: str, number: int) -> Record:
    """Returns the record of one line.

    The spans stand under one of `entities`, `spans`, `label` or `labels`, each as an object with `start`, `end` and
    `type` or `label`, as a list [start, end, type] (doccano), or as {type: {surface: [[start, end], ...]}} (CLUENER).

    Raises:
        AnnotationError: the line is no such record; the message has no place yet.
    """
    try:
        value = json.loads(line, object_pairs_hook=_object)
    except AnnotationError:
        raise
    except json.JSONDecodeError as error:
        raise AnnotationError(
            f"the line is not JSON: {error.msg} at column {error.colno}: {shorten(line)}; {_EXPECTED} on one line"
        ) from error
    except ValueError as error:
        # Python converts no endless number.
        raise AnnotationError(
            f"the JSON holds a number of thousands of digits: {shorten(line)}; mend the number"
        ) from error
    except RecursionError as error:
        raise AnnotationError(f"the JSON is nested too deeply; {_EXPECTED}") from error
    if not isinstance(value, dict):
        raise AnnotationError(f"the line is JSON, but no object: {shorten(line)}; {_EXPECTED}")
    text = value.get("text")
    if not isinstance(text, str):
        raise AnnotationError(f'the object has no string "text" (its keys: {", ".join(map(repr, value))}); {_EXPECTED}')
    identifier = None if value.get("id") is None else str(value["id"])
    if identifier is not None:
        _check_characters("the id", identifier)
    return Record(number, text, tuple(_spans(value)), identifier)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; Python would keep the last of equal keys alone, and lose the entities of the others."""
    value = dict(pairs)
    if len(value) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise AnnotationError(
            f"an object has the key {shorten(repeated)} more than once; write its values under one key"
        )
    return value


def _check_characters(what: str, text: str) -> None:
    if (surrogate := first_surrogate(text)) is not None:
        raise AnnotationError(surrogate_fault(f"{what} {shorten(text)}", text, surrogate))


def _spans(value: Mapping[str, Any]) -> Iterator[RawSpan]:
    keys = [key for key in ANNOTATION_KEYS if value.get(key) is not None]
    if not keys:
        raise AnnotationError(
            f"the object has none of the keys {', '.join(ANNOTATION_KEYS)} (its keys: {', '.join(map(repr, value))}); "
            f'write "entities": [] where a text has none'
        )
    if len(keys) > 1:
        raise AnnotationError(f"the object has the keys {' and '.join(keys)}; expected one of them; remove the others")
    annotations = value[keys[0]]
    if isinstance(annotations, dict):
        yield from _spans_by_type(annotations, keys[0])
    elif isinstance(annotations, list):
        for index, item in enumerate(annotations):
            yield _span(item, f"{keys[0]}[{index}]")
    else:
        raise AnnotationError(f"{keys[0]} is {shorten(repr(annotations))}; expected a list of spans")


def _span(item: Any, where: str) -> RawSpan:
    surface = None
    start, end, entity_type = item if isinstance(item, list) and len(item) == 3 else (None, None, None)
    if isinstance(item, dict):
        start, end, entity_type = (
            next((item[key] for key in keys if key in item), None) for keys in (_START_KEYS, _END_KEYS, _TYPE_KEYS)
        )
        surface = next((item[key] for key in _SURFACE_KEYS if isinstance(item.get(key), str)), None)
    if _is_offset(start) and _is_offset(end) and isinstance(entity_type, str):
        _check_characters(f"the type of {where}", entity_type)
        _check_characters(f"the surface of {where}", surface or "")
        return RawSpan(start, end, entity_type, surface)
    raise AnnotationError(
        f"{where} is {shorten(json.dumps(item, ensure_ascii=False))}; expected an object with whole numbers start and "
        f"end and a string type (or label), or a list [start, end, type]"
    )


def _spans_by_type(annotations: Mapping[str, Any], key: str) -> Iterator[RawSpan]:
    for entity_type, surfaces in annotations.items():
        _check_characters(f"a key of {key}", entity_type)
        for surface, places in surfaces.items() if isinstance(surfaces, dict) else [(None, surfaces)]:
            _check_characters(f"a key of {key}.{entity_type}", surface or "")
            if not isinstance(places, list) or not all(_is_place(place) for place in places):
                raise AnnotationError(
                    f"{key}.{entity_type} is {shorten(json.dumps(surfaces, ensure_ascii=False))}; expected "
                    f"{{surface: [[start, end], ...]}} with whole numbers"
                )
            for start, end in places:
                yield RawSpan(start, end, entity_type, surface)


def _is_place(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_offset, value))


def _is_offset(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
