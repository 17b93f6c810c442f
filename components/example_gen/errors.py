"""The message of an annotation error, out of whatever a Beam runner made of it."""

from __future__ import annotations

import re

from components.annotated_text import AnnotationError

# Runners pass an exception of a worker on as text: its traceback, then where it ran.
_IN_TRACEBACK = re.compile(
    rf"(?:[\w.]+\.)?{AnnotationError.__name__}: (?P<message>.*?)"
    r"(?=\s*\[while running|\n\n|\n(?:Traceback|During handling)|\Z)",
    re.DOTALL,
)
_WHERE_IT_RAN = re.compile(r"\s*\[while running '[^']*'\]")


def annotation_error_text(exception: BaseException) -> str | None:
    """Returns the message of the AnnotationError behind `exception`, or None if there is none.

    Example:
        >>> annotation_error_text(RuntimeError("...AnnotationError: a.jsonl:3: no text [while running 'Read']"))
        'a.jsonl:3: no text'
    """
    seen: list[BaseException] = []
    current: BaseException | None = exception
    while current is not None and current not in seen:
        if isinstance(current, AnnotationError):
            return _WHERE_IT_RAN.sub("", str(current))
        seen.append(current)
        current = current.__cause__ or current.__context__
    for candidate in seen:
        if match := _IN_TRACEBACK.search(str(candidate)):
            return match["message"].strip()
    return None
