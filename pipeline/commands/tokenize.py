"""`fusion-ner tokenize`: texts to word pieces, with the graph that Transform uses."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from pipeline.command_line import UsageError

# Texts go through the graph together, until there are this many of them or of their characters.
_BATCH_TEXTS = 256
_BATCH_CHARACTERS = 200_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.add_argument("--vocab", required=True, metavar="FILE", help="the vocabulary, vocab.txt of BERT")
    parser.add_argument("--cased", action="store_true", help="the vocabulary is cased: keep case and accents")
    parser.add_argument("--jsonl", action="store_true", help='each line of the input is a JSON object {"text": ...}')
    parser.add_argument(
        "input", nargs="?", default="-", metavar="FILE", help="a text a line, UTF-8; - is standard input"
    )


def main(arguments: argparse.Namespace) -> int:
    """Prints a JSON line {"tokens", "ids", "offsets"} for each text; offsets are [start, end) in code points.

    Raises:
        UsageError: the vocabulary or the input cannot be used; texts before the faulty line have been printed.
    """
    with _open_input(arguments.input) as lines:
        tokenize_texts = _load_tokenizer(arguments.vocab, lower_case=not arguments.cased)
        name = "standard input" if arguments.input == "-" else arguments.input
        read = _text_from_json if arguments.jsonl else _text_from_line
        try:
            for answer in tokenize_texts(_texts(lines, read, name)):
                sys.stdout.buffer.write(answer)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # The reader has what it wanted (`| head`); nothing may be flushed into the closed pipe at exit.
            sys.stdout = None
    return 0


def _open_input(path: str) -> contextlib.AbstractContextManager[BinaryIO]:
    if path == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return open(path, "rb")
    except OSError as error:
        raise UsageError(f"{path}: cannot read the input: {error.strerror}") from error


def _texts(lines: Iterable[bytes], read: Callable[[bytes], str | None], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            text = read(line.removesuffix(b"\n"))
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{name}:{number}: not UTF-8 (byte 0x{error.object[error.start]:02x} at column {error.start + 1}); "
                "convert the input to UTF-8"
            ) from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{name}:{number}: {error}") from error
        if text is not None:
            yield text


def _text_from_line(line: bytes) -> str:
    return line.decode("utf-8")


def _text_from_json(line: bytes) -> str | None:
    content = line.decode("utf-8").removeprefix("\ufeff")
    if not content.strip():
        return None
    try:
        value = json.loads(content)
    except json.JSONDecodeError as error:
        raise ValueError(f'not JSON ({error.msg} at column {error.colno}); expected {{"text": ...}}') from error
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise ValueError(f'expected an object with a string "text"; received {content[:80]}')
    text = value["text"]
    lone = next((index for index, character in enumerate(text) if "\ud800" <= character <= "\udfff"), None)
    if lone is not None:
        raise ValueError(
            f'"text" holds a lone surrogate, \\u{ord(text[lone]):04x}, at code point {lone}, which is no character; '
            "write characters beyond U+FFFF as a pair of surrogates"
        )
    return text


def _load_tokenizer(vocabulary_path: str, *, lower_case: bool) -> Callable[[Iterable[str]], Iterator[bytes]]:
    """Returns a function from texts to the lines that answer them, in bounded memory."""
    # TensorFlow takes seconds to import; the command table must not wait for it.
    import tensorflow as tf

    from components.transform.tokenizer import Tokenizer
    from components.transform.vocabulary import Vocabulary, VocabularyError

    try:
        vocabulary = Vocabulary.from_file(vocabulary_path)
        tokenizer = Tokenizer(vocabulary, lower_case=lower_case)
    except VocabularyError as error:
        raise UsageError(str(error)) from error
    graph = tf.function(tokenizer.__call__, input_signature=[tf.TensorSpec([None], tf.string)])

    def answers(texts: list[str]) -> Iterator[bytes]:
        tokens = graph(tf.constant(texts, tf.string))
        for ids, starts, ends in zip(*(field.to_list() for field in tokens), strict=True):
            answer = {
                "tokens": [vocabulary.tokens[index] for index in ids],
                "ids": ids,
                "offsets": list(zip(starts, ends, strict=True)),
            }
            yield json.dumps(answer, ensure_ascii=False).encode() + b"\n"

    def tokenize_texts(texts: Iterable[str]) -> Iterator[bytes]:
        batch: list[str] = []
        characters = 0
        try:
            for text in texts:
                batch.append(text)
                characters += len(text)
                if len(batch) >= _BATCH_TEXTS or characters >= _BATCH_CHARACTERS:
                    yield from answers(batch)
                    batch, characters = [], 0
        except UsageError:
            yield from answers(batch)
            raise
        yield from answers(batch)

    return tokenize_texts
