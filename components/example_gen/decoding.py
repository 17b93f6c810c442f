"""Bytes of a file to lines of text."""

from __future__ import annotations

import codecs

from components.annotated_text import AnnotationError

# What Chinese, Japanese and Western files come in; encodings that fit any bytes would be no hint.
_OTHER_ENCODINGS = ("gb18030", "big5", "shift_jis", "cp1252")
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# How compressed files begin, and what they are.
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh91AY&SY": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


def decode_lines(data: bytes, name: str, encoding: str = "utf-8") -> list[str]:
    """Returns the lines of a file without their ends (LF or CRLF) and without a byte order mark.

    Only LF and CRLF end a line: other characters that `str.splitlines` would split at occur inside texts.

    Args:
        data: the bytes of the file.
        name: the file's name, for messages.
        encoding: of the file.

    Raises:
        AnnotationError: the bytes are not in this encoding (with byte offset and line), are no text, or end their lines
            in CR alone.
    """
    if kind := next((kind for start, kind in _COMPRESSED.items() if data.startswith(start)), None):
        raise AnnotationError(f"{name}:1: the file is compressed ({kind}); expected annotated text; unpack it")
    name_of_encoding = codecs.lookup(encoding).name
    mark = next((mark for mark in _MARKS if data.startswith(mark)), None)
    if mark and name_of_encoding == "utf-8":
        raise AnnotationError(
            f"{name}:1: the file begins with the byte order mark of {_MARKS[mark]}, expected utf-8; convert the file, "
            f"or set encoding: {_MARKS[mark]}"
        )
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise AnnotationError(
            f"{name}:{line}: byte {error.start} (0x{data[error.start]:02x}) is not {encoding}: {error.reason}; "
            f"convert the file to utf-8, or set encoding to the true one{_hint(data, encoding)}"
        ) from error
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise AnnotationError(
            f"{name}:{line}: the line contains a NUL character, so this is no text in {encoding}; expected annotated "
            f"text, perhaps the encoding is utf-16"
        )
    # A CR here and there is text; where most lines end in one, each file would be a line or two.
    if text.count("\r") - text.count("\r\n") > text.count("\n"):
        raise AnnotationError(
            f"{name}:1: the lines end in CR alone, as on old Macintosh systems; expected LF or CRLF; convert the line "
            f"ends, for instance with `tr '\\r' '\\n'`"
        )
    return [line.removesuffix("\r") for line in text.split("\n")]


def _hint(data: bytes, encoding: str) -> str:
    fitting = [other for other in _OTHER_ENCODINGS if other != encoding and _fits(data, other)]
    return f" (the bytes fit {', '.join(fitting)})" if fitting else ""


def _fits(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
