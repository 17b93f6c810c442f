"""JSON as TensorFlow Serving's REST API reads and writes it.

Python's `json` differs where clients would notice: here strings are bytes that need not be UTF-8, whole numbers and
decimals are told apart, the first of two equal keys counts, NaN and Infinity are numbers, a lone surrogate is an error,
and errors carry the byte offset.

Values: None, bool, int (within 64 bits), float, bytes for strings, list, and dict with bytes keys.
"""

from __future__ import annotations

import math
import re
from typing import Any, NoReturn

import numpy as np

_WHITE_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(rb"-?(?:NaN|Infinity|Inf)")
_LITERALS: dict[bytes, Any] = {b"null": None, b"true": True, b"false": False}
_ESCAPES = {
    ord('"'): b'"',
    ord("\\"): b"\\",
    ord("/"): b"/",
    ord("b"): b"\b",
    ord("f"): b"\f",
    ord("n"): b"\n",
    ord("r"): b"\r",
    ord("t"): b"\t",
}
_HEX = re.compile(rb"[0-9a-fA-F]{4}")
# Deeper documents are an attack on the parser's stack, not a tensor: NumPy's own limit is 32 dimensions.
_DEEPEST = 100


class JsonError(ValueError):
    """Raised for bytes that are no JSON document; `str()` gives the reason and the byte offset."""


def parse(data: bytes) -> Any:
    """Returns the value of a JSON document.

    Raises:
        JsonError: with the reason and offset.

    Example:
        >>> parse(b'{"instances": ["a", 1.0]}')
        {b'instances': [b'a', 1.0]}
    """
    if not data.strip(b" \t\n\r"):
        # TensorFlow Serving names no offset for a body of no bytes at all.
        raise JsonError("The document is empty" + ("" if not data else f". at offset: {len(data)}"))
    value, position = _value(data, _skip(data, 0), 0)
    position = _skip(data, position)
    if position < len(data):
        _fail("The document root must not be followed by other values.", position)
    return value


def pretty(value: Any, level: int = 0) -> bytes:
    """Returns `value` as JSON with an indent of four, the form in which errors quote it."""
    inner, outer = b"\n" + b"    " * (level + 1), b"\n" + b"    " * level
    if isinstance(value, dict):
        members = [string(key) + b": " + pretty(item, level + 1) for key, item in value.items()]
        return b"{" + inner + (b"," + inner).join(members) + outer + b"}" if members else b"{}"
    if isinstance(value, list):
        items = [pretty(item, level + 1) for item in value]
        return b"[" + inner + (b"," + inner).join(items) + outer + b"]" if items else b"[]"
    if isinstance(value, bytes):
        return string(value)
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if value is None:
        return b"null"
    return decimal(value, double=True) if isinstance(value, float) else str(value).encode()


def type_name(value: Any) -> str:
    """Returns the name of a value's JSON type as errors give it; true and false are types of their own."""
    if isinstance(value, bool):
        return "True" if value else "False"
    names = {type(None): "Null", dict: "Object", list: "Array", bytes: "String"}
    return names.get(type(value), "Number")


_TO_ESCAPE = re.compile(rb'["\\\x00-\x1f]')
_WRITTEN = {b'"': b'\\"', b"\\": b"\\\\", b"\b": b"\\b", b"\f": b"\\f", b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t"}


def string(text: bytes) -> bytes:
    """Returns `text` as a JSON string; bytes that are no UTF-8 stay as they are."""

    def escape(match: re.Match[bytes]) -> bytes:
        return _WRITTEN.get(match[0]) or b"\\u%04X" % match[0][0]

    return b'"' + _TO_ESCAPE.sub(escape, text) + b'"'


def decimal(value: float, *, double: bool) -> bytes:
    """Returns a float32 (or float64, if `double`) in the fewest of 6 or 9 (17) digits that give it back.

    Example:
        >>> decimal(0.5, double=False), decimal(3.0, double=False), decimal(1e10, double=False)
        (b'0.5', b'3.0', b'1e+10')
    """
    if math.isnan(value):
        return b"NaN"
    if math.isinf(value):
        return b"Infinity" if value > 0 else b"-Infinity"
    text = f"{value:.6g}"
    if not _same(float(text), value, double=double):
        text = f"{value:.{17 if double else 9}g}"
    if "." not in text and "e" not in text:
        text += ".0"
    return text.encode()


def _same(parsed: float, value: float, *, double: bool) -> bool:
    if double:
        return parsed == value
    return bool(np.float32(parsed) == np.float32(value))


def _fail(reason: str, offset: int) -> NoReturn:
    raise JsonError(f"{reason} at offset: {offset}")


def _skip(data: bytes, position: int) -> int:
    match = _WHITE_SPACE.match(data, position)
    return match.end() if match else position


def _value(data: bytes, position: int, depth: int) -> tuple[Any, int]:
    if depth > _DEEPEST:
        _fail(f"Values are nested deeper than {_DEEPEST} levels.", position)
    first = data[position : position + 1]
    if first == b'"':
        return _string(data, position + 1)
    if first == b"{":
        return _object(data, position + 1, depth)
    if first == b"[":
        return _array(data, position + 1, depth)
    for literal, meaning in _LITERALS.items():
        if first == literal[:1]:
            if data.startswith(literal, position):
                return meaning, position + len(literal)
            matching = 0
            while data[position + matching : position + matching + 1] == literal[matching : matching + 1]:
                matching += 1
            _fail("Invalid value.", position + matching)
    return _number(data, position)


def _number(data: bytes, position: int) -> tuple[Any, int]:
    not_finite = _NOT_FINITE.match(data, position)
    if not_finite:
        return float(not_finite[0]), not_finite.end()
    match = _NUMBER.match(data, position)
    if not match:
        _fail("Invalid value.", position)
    end = match.end()
    if match[1] is None and match[2] is None:
        whole = int(match[0]) if end - position < 25 else None
        if whole is not None and -(2**63) <= whole < 2**64:
            if data[end : end + 1] == b".":
                _fail("Miss fraction part in number.", end + 1)
            # -0 is a decimal: as a whole number it would lose its sign.
            return (whole, end) if match[0] != b"-0" else (-0.0, end)
    value = float(match[0])
    if math.isinf(value):
        _fail("Number too big to be stored in double.", position)
    return value, end


def _string(data: bytes, position: int) -> tuple[bytes, int]:
    parts = []
    while True:
        match = _PLAIN.match(data, position)
        assert match is not None, "the pattern matches the empty string"
        parts.append(match[0])
        position = match.end()
        following = data[position : position + 1]
        if following == b'"':
            return b"".join(parts), position + 1
        if following == b"\\":
            escaped, position = _escape(data, position)
            parts.append(escaped)
        elif following in (b"", b"\0"):
            _fail("Missing a closing quotation mark in string.", position)
        else:
            _fail("Invalid encoding in string.", position)


def _escape(data: bytes, position: int) -> tuple[bytes, int]:
    kind = data[position + 1 : position + 2]
    if kind == b"u":
        unit, end = _unit(data, position)
        if 0xD800 <= unit < 0xE000:
            if unit >= 0xDC00 or data[end : end + 2] != b"\\u":
                _fail("The surrogate pair in string is invalid.", position)
            low, end = _unit(data, end)
            if not 0xDC00 <= low < 0xE000:
                _fail("The surrogate pair in string is invalid.", position)
            unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
        return chr(unit).encode("utf-8"), end
    if not kind or kind[0] not in _ESCAPES:
        _fail("Invalid escape character in string.", position)
    return _ESCAPES[kind[0]], position + 2


def _unit(data: bytes, position: int) -> tuple[int, int]:
    match = _HEX.match(data, position + 2)
    if not match:
        _fail("Incorrect hex digit after \\u escape in string.", position)
    return int(match[0], 16), match.end()


def _object(data: bytes, position: int, depth: int) -> tuple[dict[bytes, Any], int]:
    members: dict[bytes, Any] = {}
    position = _skip(data, position)
    if data[position : position + 1] == b"}":
        return members, position + 1
    while True:
        if data[position : position + 1] != b'"':
            _fail("Missing a name for object member.", position)
        key, position = _string(data, position + 1)
        position = _skip(data, position)
        if data[position : position + 1] != b":":
            _fail("Missing a colon after a name of object member.", position)
        value, position = _value(data, _skip(data, position + 1), depth + 1)
        members.setdefault(key, value)
        position = _skip(data, position)
        separator = data[position : position + 1]
        if separator == b"}":
            return members, position + 1
        if separator != b",":
            _fail("Missing a comma or '}' after an object member.", position)
        position = _skip(data, position + 1)


def _array(data: bytes, position: int, depth: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    position = _skip(data, position)
    if data[position : position + 1] == b"]":
        return items, position + 1
    while True:
        item, position = _value(data, position, depth + 1)
        items.append(item)
        position = _skip(data, position)
        separator = data[position : position + 1]
        if separator == b"]":
            return items, position + 1
        if separator != b",":
            _fail("Missing a comma or ']' after an array element.", position)
        position = _skip(data, position + 1)
