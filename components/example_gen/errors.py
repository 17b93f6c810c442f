"""The message of an annotation error, out of whatever a Beam runner made of it."""

from __future__ import annotations

import re

from components.annotated_text import AnnotationError

# Beam says behind the message of a worker's exception where it ran.
_WHERE_IT_RAN = re.compile(r"\s*\[while running '[^'\n]*'\]\s*(?:\n.*)?\Z", re.DOTALL)
_NAME = f"{AnnotationError.__name__}: "


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
        # A worker of its own process passes its exception on as text: the traceback, which ends with the message.
        _, found, message = str(candidate).rpartition(_NAME)
        if found:
            return _WHERE_IT_RAN.sub("", message).strip()
    return None
