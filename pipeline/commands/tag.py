"""`fusion-ner tag`: tags texts through a model server, one JSON line a text."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pipeline.command_line import UsageError

if TYPE_CHECKING:
    from serving.client import TaggedText


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `fusion-ner tag`."""
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts to tag")
    parser.add_argument("--input", metavar="FILE|-", help="file with one text a line, UTF-8; - is the standard input")
    parser.add_argument(
        "--target", default="localhost:8500", metavar="HOST:PORT", help="server (default: localhost:8500)"
    )
    parser.add_argument(
        "--model-name", default="ner", metavar="NAME", help="name of the model on the server (default: ner)"
    )
    parser.add_argument("--model-version", type=int, metavar="N", help="version of the model (default: the newest)")
    parser.add_argument("--version-label", metavar="LABEL", help="label of the version, instead of its number")
    parser.add_argument(
        "--timeout",
        type=float,
        default=10.0,
        metavar="S",
        help="seconds for each request, retries included (default: 10)",
    )
    parser.add_argument(
        "--concurrency", type=int, default=4, metavar="N", help="requests under way at once (default: 4)"
    )
    parser.add_argument(
        "--root-certificates", type=Path, metavar="PEM", help="connect by TLS, trusting these authorities"
    )
    parser.add_argument("--client-key", type=Path, metavar="PEM", help="key of the client, for mutual TLS")
    parser.add_argument(
        "--client-certificate", type=Path, metavar="PEM", help="certificate of the client, for mutual TLS"
    )
    parser.add_argument("--pretty", action="store_true", help="show the texts with coloured entities instead of JSON")


def main(arguments: argparse.Namespace) -> int:
    """Prints the entities of every text in their order; status 1 if the server fails or is not there."""
    from components.settings import SettingsError
    from serving.client import Client, ConnectionSettings, ServingError, Tls

    try:
        settings = ConnectionSettings(timeout=arguments.timeout, concurrency=arguments.concurrency)
        tls_files = (arguments.root_certificates, arguments.client_key, arguments.client_certificate)
        tls = Tls(*tls_files) if any(tls_files) else None
        client = Client(
            arguments.target,
            model_name=arguments.model_name,
            version=arguments.model_version,
            version_label=arguments.version_label,
            settings=settings,
            tls=tls,
        )
    except (SettingsError, ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    show = _print_pretty if arguments.pretty else _print_json
    with client:
        try:
            show(client.tag_stream(_texts(arguments)))
        except ServingError as error:
            print(f"fusion-ner tag: {error}", file=sys.stderr)
            return 1
        except BrokenPipeError:
            # Whoever read our output has seen enough; what is still buffered must not raise again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
    return 0


def _texts(arguments: argparse.Namespace) -> Iterable[str]:
    if arguments.texts and arguments.input:
        raise UsageError("expected texts as arguments or --input, not both")
    if arguments.texts:
        return arguments.texts
    source = arguments.input
    if source is None:
        if sys.stdin.isatty():
            raise UsageError("expected texts: as arguments, or one a line with --input FILE (- is the standard input)")
        source = "-"
    if source == "-":
        return _lines(sys.stdin.buffer, "<stdin>")
    if not Path(source).is_file():
        raise UsageError(f"--input: expected a file; {source!r} is none")
    return _file_lines(Path(source))


def _file_lines(path: Path) -> Iterator[str]:
    with path.open("rb") as stream:
        yield from _lines(stream, str(path))


def _lines(stream: BinaryIO, name: str) -> Iterator[str]:
    # By bytes: `str.splitlines` and text mode would also cut at characters that belong to a text.
    for number, line in enumerate(stream, start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{name}:{number}: expected UTF-8; byte {error.start + 1} of the line is not") from error
        if number == 1:
            text = text.removeprefix("\ufeff")
        yield text.rstrip("\r\n")


# Line separators that some readers would cut a JSON line at, and lone surrogates, which no encoding can carry.
_MUST_BE_ESCAPED = re.compile("[\x85\u2028\u2029\ud800-\udfff]")


def _print_json(results: Iterable[TaggedText]) -> None:
    for tagged in results:
        entities = [
            # float32 has about 7 significant digits; the rest is noise of the conversion.
            {"start": e.start, "end": e.end, "type": e.type, "text": e.text, "score": float(f"{e.score:.7g}")}
            for e in tagged.entities
        ]
        line = json.dumps({"text": tagged.text, "entities": entities}, ensure_ascii=False)
        print(_MUST_BE_ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", line))


_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


def _print_pretty(results: Iterable[TaggedText]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    colours: dict[str, str] = {}
    for tagged in results:
        line = Text()
        position = 0
        for entity in tagged.entities:
            colour = colours.setdefault(entity.type, _COLOURS[len(colours) % len(_COLOURS)])
            line.append(tagged.text[position : entity.start])
            line.append(entity.text, style=f"bold {colour} underline")
            line.append(f"[{entity.type} {entity.score:.2f}]", style=colour)
            position = entity.end
        line.append(tagged.text[position:])
        console.print(line)
