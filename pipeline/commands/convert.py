"""`fusion-ner convert`: a TensorFlow 1 checkpoint of the seed's code becomes a version that TF Serving serves."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from pipeline.command_line import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `fusion-ner convert`."""
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="PREFIX", help="the checkpoint, without .index or .data-..."
    )
    parser.add_argument(
        "--bert-config", type=Path, required=True, metavar="FILE", help="bert_config.json of its encoder"
    )
    parser.add_argument("--vocab", type=Path, required=True, metavar="FILE", help="vocab.txt of its encoder")
    parser.add_argument("--labels", type=Path, required=True, metavar="FILE", help="its tags, one a line in id order")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="serving folder of the model; the SavedModel is published as its newest version, DIR/VERSION",
    )
    parser.add_argument("--cased", action="store_true", help="the vocabulary is cased (default: lower-cased)")
    parser.add_argument(
        "--iob1", action="store_true", help="the labels are IOB1: I- begins an entity after O or another type"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="in which matrices are stored and multiplied; the lower ones halve the model (default: float32)",
    )
    parser.add_argument(
        "--model-name", default="ner", metavar="NAME", help="name of the model in its card (default: ner)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Publishes the model; the last line on the standard output is the folder of the version."""
    from components import progress
    from components.pusher.publish import PushError
    from components.pusher.versions import VersionError
    from components.trainer.checkpoint_error import CheckpointError
    from components.trainer.label_scheme import LabelError
    from components.trainer.seed_conversion import SeedModel, convert
    from components.transform.vocabulary import VocabularyError

    progress.show_on(logging.StreamHandler())
    model = SeedModel(
        arguments.checkpoint,
        arguments.bert_config,
        arguments.vocab,
        arguments.labels,
        lower_case=not arguments.cased,
        iob1=arguments.iob1,
        precision=arguments.precision,
    )
    try:
        pushed = convert(model, arguments.output, arguments.model_name)
    except (CheckpointError, LabelError, VocabularyError, PushError, VersionError) as error:
        raise UsageError(str(error)) from error
    print(f"serve it with: fusion-ner serve --model-base-path {arguments.output} --model-name {arguments.model_name}")
    print(pushed.path)
    return 0
