"""`fusion-ner score`: strict scores of a model, in this process or behind a server, against annotated text."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from components.annotated_text import AnnotatedText, AnnotationError, Entity
from components.evaluator.entity_scores import StrictReport, count_entities
from pipeline.command_line import UsageError
from pipeline.commands.tagger_options import add_tagger_options, client_of, model_folder

# Texts and characters that go through a model in this process together.
_MAXIMUM_TEXTS = 64
_MAXIMUM_CHARACTERS = 20_000


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


# Option -> argparse's type of the value, the choices, help. Each overrides the setting of `data` that it is named after
# and that the readers' messages ask for: `--tag-column` is `tag_column`.
READING_OPTIONS: dict[str, tuple[Any, tuple[str, ...] | None, str]] = {
    "--format": (str, ("auto", "conll", "json_lines", "iob2", "jsonl"), "format of the file (default: by content)"),
    "--scheme": (
        str,
        ("auto", "BIO", "IOB1", "BIOES", "BMES"),
        "scheme of the tags in columns (default: by evidence of the whole file)",
    ),
    "--encoding": (str, None, "encoding of the file (default: utf-8)"),
    "--tag-column": (int, None, "column of the tags, counted from 1 (default: by evidence)"),
    "--token-column": (int, None, "column of the tokens, counted from 1 (default: by evidence)"),
    "--joint": (str, ("auto", "space", "none"), "what stands between two tokens in columns (default: by their script)"),
    "--position-digits": (
        str,
        ("auto", "strip", "keep"),
        "what a digit behind each character is (default: by evidence)",
    ),
    "--span-end": (str, ("auto", "exclusive", "inclusive"), "ends of JSON spans (default: by the surfaces)"),
    "--offset-unit": (str, ("code_point", "utf16", "byte"), "what JSON offsets count (default: code_point)"),
    "--ignore-types": (_names, None, "entity types to leave out, with commas between (default: none)"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `fusion-ner score`."""
    parser.add_argument("--gold", required=True, metavar="FILE", help="annotated text")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML file of a pipeline: annotated text is read as its data section says, with ignore_types",
    )
    for option, (value_type, choices, help_text) in READING_OPTIONS.items():
        parser.add_argument(
            option, type=value_type, choices=choices, metavar=None if choices else option[2].upper(), help=help_text
        )
    parser.add_argument(
        "--trim-whitespace",
        action=argparse.BooleanOptionalAction,
        help="cut white space off the edges of entities, instead of refusing it",
    )
    add_tagger_options(parser, timed="each request")


def main(arguments: argparse.Namespace) -> int:
    """Prints the scores as one JSON object; status 1 if the server fails or is not there."""
    from serving.errors import ServingError

    gold = _read_gold(arguments)
    texts = [annotated.text for annotated in gold]
    try:
        if arguments.target is None:
            predictions = _tag_in_process(model_folder(arguments.model), texts)
        else:
            predictions = _tag_on_server(arguments, texts)
        report = _compare(gold, predictions)
    except ServingError as error:
        print(f"fusion-ner score: {error}", file=sys.stderr)
        return 1
    entities = report.micro.gold
    print(json.dumps({**report.to_json(), "texts": report.texts, "entities": entities}, ensure_ascii=False, indent=2))
    return 0


def _read_gold(arguments: argparse.Namespace) -> Sequence[AnnotatedText]:
    """Returns the gold texts after writing to stderr what the reader detected and did, as `fusion-ner run` logs it."""
    from components.example_gen.reading import read_corpus
    from components.settings import SettingsError
    from pipeline.configuration import read_reading_settings

    given = {option[2:].replace("-", "_") for option in READING_OPTIONS} | {"trim_whitespace"}
    overrides = {name: value for name in given if (value := getattr(arguments, name)) is not None}
    try:
        corpus = read_corpus(arguments.gold, read_reading_settings(arguments.config, overrides))
    except SettingsError as error:
        raise UsageError(str(error)) from error
    except AnnotationError as error:
        settings = sorted(name for name in given if name in str(error))
        options = ", ".join(f"--{name.replace('_', '-')}" for name in settings)
        hint = f"\n({', '.join(settings)}: under data of --config FILE, or {options})" if settings else ""
        raise UsageError(f"{error}{hint}") from error
    for note in corpus.notes:
        print(f"{arguments.gold}: {note}", file=sys.stderr)
    return corpus.texts


def _tag_in_process(folder: Path, texts: Sequence[str]) -> Iterator[list[Entity]]:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401 - registers the ops of the tokenizer inside the model

    from components import features
    from serving.messages import batch_texts, text_bytes

    try:
        model = tf.saved_model.load(str(folder))
        tag = model.signatures[features.SERVING_SIGNATURE]
    except (OSError, KeyError, tf.errors.OpError) as error:
        raise UsageError(f"--model: {folder} is no exported tagger: {error}") from error
    for batch in batch_texts(texts, max_texts=_MAXIMUM_TEXTS, max_characters=_MAXIMUM_CHARACTERS):
        outputs = tag(**{features.TEXT: tf.constant([text_bytes(text) for text in batch])})
        counts, starts, ends, types = (
            outputs[name].numpy().tolist()
            for name in (features.ENTITY_COUNT, features.ENTITY_START, features.ENTITY_END, features.ENTITY_TYPE)
        )
        for row, count in enumerate(counts):
            cells = zip(starts[row][:count], ends[row][:count], types[row][:count], strict=True)
            yield [Entity(start, end, name.decode("utf-8")) for start, end, name in cells]


def _tag_on_server(arguments: argparse.Namespace, texts: Sequence[str]) -> Iterator[list[Entity]]:
    with client_of(arguments) as client:
        for tagged in client.tag_stream(texts):
            yield [Entity(entity.start, entity.end, entity.type) for entity in tagged.entities]


def _compare(gold: Sequence[AnnotatedText], predictions: Iterator[list[Entity]]) -> StrictReport:
    report = StrictReport()
    for annotated, predicted in zip(gold, predictions, strict=True):
        report += count_entities(annotated.entities, predicted)
        _show_progress(report.texts, len(gold))
    return report


def _show_progress(done: int, total: int) -> None:
    # A line that writes over itself is for people only.
    if sys.stderr.isatty() and (done % _MAXIMUM_TEXTS == 0 or done == total):
        print(f"\rscored {done} of {total} texts", end="\n" if done == total else "", file=sys.stderr, flush=True)
