from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.embedded.json_values import JsonError, decimal, parse, pretty

DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=12,
)


def _with_bytes(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    if isinstance(value, dict):
        return {key.encode(): _with_bytes(item) for key, item in value.items()}
    return value


@given(DOCUMENTS, st.booleans())
def test_reads_what_python_writes(document: Any, escaped: bool) -> None:
    assert parse(json.dumps(document, ensure_ascii=escaped).encode()) == _with_bytes(document)


@given(DOCUMENTS)
def test_python_reads_what_pretty_writes(document: Any) -> None:
    assert json.loads(pretty(_with_bytes(document))) == document


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(JsonError):
        parse(data)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param(b'{"a": 1, "a": 2}', {b"a": 1}, id="the first of equal keys"),
        pytest.param(b"[1, 1.0, 1e2]", [1, 1.0, 100.0], id="whole numbers and decimals"),
        pytest.param(b"[Infinity, -Inf]", [math.inf, -math.inf], id="infinities"),
        pytest.param(b'["\xff"]', [b"\xff"], id="bytes that are no UTF-8"),
        pytest.param(b'["\\ud83d\\ude00\\u0000"]', ["😀\0".encode()], id="escapes"),
        pytest.param(b"18446744073709551616", 18446744073709551616.0, id="above 64 bits is a decimal"),
    ],
)
def test_parse(text: bytes, value: Any) -> None:
    parsed = parse(text)
    assert parsed == value
    assert [type(item) for item in parsed] == [type(item) for item in value] if isinstance(value, list) else True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(b"", "The document is empty", id="empty"),
        pytest.param(b"{} x", "must not be followed by other values. at offset: 3", id="trailing bytes"),
        pytest.param(b"[1,]", "Invalid value. at offset: 3", id="trailing comma"),
        pytest.param(b"[nan]", "Invalid value. at offset: 2", id="other spelling of NaN"),
        pytest.param(b"{a:1}", "Missing a name for object member. at offset: 1", id="bare name"),
        pytest.param(b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5", id="no colon"),
        pytest.param(b"[1 2]", "Missing a comma or '\\]' after an array element. at offset: 3", id="no comma"),
        pytest.param(b'["a', "Missing a closing quotation mark in string. at offset: 3", id="open string"),
        pytest.param(b'["\\x"]', "Invalid escape character in string. at offset: 2", id="unknown escape"),
        pytest.param(b'["\\ud83d"]', "The surrogate pair in string is invalid. at offset: 2", id="lone surrogate"),
        pytest.param(b"[1e999]", "Number too big to be stored in double. at offset: 1", id="too big"),
        pytest.param(b"[" * 100_000, "nested deeper than 100 levels", id="100,000 levels"),
    ],
)
def test_parse_refuses(text: bytes, message: str) -> None:
    with pytest.raises(JsonError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("value", "double", "text"),
    [
        pytest.param(3.0, False, b"3.0", id="whole"),
        pytest.param(1e6, False, b"1e+06", id="with an exponent"),
        pytest.param(float(np.float32(1 / 3)), False, b"0.333333343", id="nine digits"),
        pytest.param(1 / 3, True, b"0.33333333333333331", id="seventeen digits"),
        pytest.param(-0.0, False, b"-0.0", id="minus zero"),
    ],
)
def test_decimal(value: float, double: bool, text: bytes) -> None:
    assert decimal(value, double=double) == text


@given(st.floats(width=32, allow_nan=False))
def test_decimal_gives_the_value_back(value: float) -> None:
    assert np.float32(float(decimal(value, double=False))) == np.float32(value)
