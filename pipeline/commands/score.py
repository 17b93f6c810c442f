"""`fusion-ner score`: strict scores of a model, in this process or behind a server, against annotated text."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from components.annotated_text import AnnotatedText, AnnotationError, Entity
from components.evaluator.entity_scores import StrictReport, count_entities
from components.pusher.versions import parse_version
from pipeline.command_line import UsageError

# Texts and characters that go through a model in this process together.
_MAXIMUM_TEXTS = 64
_MAXIMUM_CHARACTERS = 20_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `fusion-ner score`."""
    parser.add_argument("--gold", required=True, metavar="FILE", help="annotated text; every entity in it counts")
    parser.add_argument(
        "--format",
        default="auto",
        choices=("auto", "conll", "json_lines", "iob2", "jsonl"),
        help="format of FILE (default: by content)",
    )
    parser.add_argument(
        "--scheme",
        default="auto",
        choices=("auto", "BIO", "IOB1", "BIOES", "BMES"),
        help="scheme of the tags in columns (default: by evidence of the whole file)",
    )
    parser.add_argument("--encoding", default="utf-8", help="encoding of FILE (default: utf-8)")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--model", type=Path, metavar="DIR", help="a SavedModel, or a folder of versions, of which the newest is taken"
    )
    where.add_argument("--target", metavar="HOST:PORT", help="a model server")
    parser.add_argument(
        "--model-name", default="ner", metavar="NAME", help="name of the model on the server (default: ner)"
    )
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="seconds for each request to a server (default: 30)"
    )


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


def _read_gold(arguments: argparse.Namespace) -> list[AnnotatedText]:
    from components.example_gen.reading import read_annotated_text
    from components.example_gen.settings import ReadingSettings
    from components.settings import SettingsError

    try:
        settings = ReadingSettings(format=arguments.format, scheme=arguments.scheme, encoding=arguments.encoding)
        return read_annotated_text(arguments.gold, settings)
    except (AnnotationError, SettingsError) as error:
        raise UsageError(str(error)) from error


def model_folder(folder: Path) -> Path:
    """Returns the folder of a SavedModel: `folder` itself, or the newest of the versions in it."""
    if (folder / "saved_model.pb").is_file():
        return folder
    versions = {parse_version(file.parent.name): file.parent for file in folder.glob("*/saved_model.pb")}
    newest = max((version for version in versions if version is not None), default=None)
    if newest is None:
        raise UsageError(
            f"--model: expected a folder with saved_model.pb, or one with such folders as versions; {folder} is neither"
        )
    return versions[newest]


def _tag_in_process(folder: Path, texts: Sequence[str]) -> Iterator[list[Entity]]:
    # TensorFlow reports at length, and as errors, that it found no GPU libraries or found them twice.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
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
    from components.settings import SettingsError
    from serving.client import Client, ConnectionSettings

    try:
        settings = ConnectionSettings(timeout=arguments.timeout)
        client = Client(arguments.target, model_name=arguments.model_name, settings=settings)
    except (SettingsError, ValueError) as error:
        raise UsageError(str(error)) from error
    with client:
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
