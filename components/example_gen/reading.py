"""A file of annotated text in any format, by content or as told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from components.annotated_text import AnnotatedText, AnnotationError
from components.example_gen.conll import read_conll
from components.example_gen.corpus import Corpus
from components.example_gen.decoding import decode_lines
from components.example_gen.json_lines import lines_of_object, read_json_lines
from components.example_gen.settings import REMOTE, Format, ReadingSettings

READERS: Mapping[str, Callable[[Sequence[str], str, ReadingSettings], Corpus]] = {
    "conll": read_conll,
    "json_lines": read_json_lines,
}
# As many lines decide the format, if the first one leaves it open.
_LINES_OF_EVIDENCE = 20


def read_annotated_text(path: str, settings: ReadingSettings | None = None) -> list[AnnotatedText]:
    """Returns the annotated texts of a file, in its order.

    Args:
        path: of the file; `gs://...` and the like are read through TensorFlow.
        settings: how to read; None: everything by evidence.

    Raises:
        AnnotationError: the file cannot be read, or breaks a rule of its format; with file and line.
    """
    return list(read_corpus(path, settings).texts)


def read_corpus(path: str, settings: ReadingSettings | None = None) -> Corpus:
    """Returns the texts of a file, and notes on what was detected and done; see `read_annotated_text`."""
    return parse_corpus(_read_bytes(path), path, settings or ReadingSettings())


def parse_corpus(data: bytes, name: str, settings: ReadingSettings) -> Corpus:
    """Returns the texts in the bytes of a file.

    Args:
        data: the bytes.
        name: of the file, for messages and sources.
        settings: how to read.

    Raises:
        AnnotationError: the bytes are not in the encoding, or break a rule of the format.
    """
    lines = decode_lines(data, name, settings.encoding)
    format_name = detect_format(lines, name) if settings.format == "auto" else settings.format
    corpus = READERS[format_name](lines, name, settings)
    how = " (detected)" if settings.format == "auto" else ""
    return Corpus(corpus.texts, (f"the format is {format_name}{how}", *corpus.notes))


def detect_format(lines: Sequence[str], name: str) -> Format:
    """Returns the format that the first lines show.

    The rule: if the first line that is not blank is a JSON object, or begins one of several lines (which the reader of
    JSON lines refuses in so many words), or if each of the first 20 begins with `{`, the format is `json_lines`;
    otherwise `conll`.

    Raises:
        AnnotationError: there is no such line, or the file is one JSON array.
    """
    shown = [line.strip() for line in lines if line.strip()][:_LINES_OF_EVIDENCE]
    if not shown:
        raise AnnotationError(f"{name}:1: the corpus is empty: the file has no text; expected annotated text")
    if _is_json(shown[0], dict) or all(line.startswith("{") for line in shown) or lines_of_object(lines) > 1:
        return "json_lines"
    if shown[0].startswith("[{") or (shown[0] == "[" and shown[1:2] and shown[1].startswith("{")):
        raise AnnotationError(
            f"{name}:1: the file is one JSON array; expected one object a line; write each on its own line"
        )
    return "conll"


def _is_json(line: str, kind: type) -> bool:
    try:
        return isinstance(json.loads(line), kind)
    except (ValueError, RecursionError):
        return False


def _read_bytes(path: str) -> bytes:
    try:
        if REMOTE in path:
            # Only for remote files: the import of TensorFlow takes seconds.
            import tensorflow as tf

            with tf.io.gfile.GFile(path, "rb") as file:
                return file.read()
        with open(path, "rb") as file:
            return file.read()
    except Exception as error:
        raise AnnotationError(
            f"{path}: the file cannot be read: {error}; check the path and its permissions"
        ) from error
