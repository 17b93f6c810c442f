"""`fusion-ner explain`: which encoder layers each token of a text is read from, drawn over the text."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.command_line import UsageError
from pipeline.commands.tagger_options import add_tagger_options, client_of, model_folder

if TYPE_CHECKING:
    from serving.explanation import Explanation

# Above this a page has more cells than a browser draws in a moment.
_MAXIMUM_CHARACTERS = 5000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `fusion-ner explain`."""
    parser.add_argument("text", metavar="TEXT", help="the text")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="what to write: a page (.html) or a picture (.png)"
    )
    add_tagger_options(parser, timed="the request")


def main(arguments: argparse.Namespace) -> int:
    """Writes the page or the picture; status 1 if the server fails or is not there."""
    from pipeline.explanation_page import explanation_page
    from pipeline.explanation_picture import MissingGlyphsError, write_picture
    from serving.errors import ServingError

    output: Path = arguments.output
    if output.suffix not in (".html", ".png"):
        raise UsageError(f"--output: expected a file that ends in .html or .png; received {output}")
    if not output.resolve().parent.is_dir():
        raise UsageError(f"--output: there is no folder {output.resolve().parent}")
    if os.path.isdir(output):
        raise UsageError(f"--output: {output} is a folder; expected a file")
    if len(arguments.text) > _MAXIMUM_CHARACTERS:
        raise UsageError(f"expected a text of at most {_MAXIMUM_CHARACTERS} characters; this has {len(arguments.text)}")
    try:
        explained = _explain_in_process(arguments) if arguments.target is None else _explain_on_server(arguments)
    except ServingError as error:
        print(f"fusion-ner explain: {error}", file=sys.stderr)
        return 1
    if not explained.tokens:
        raise UsageError("the text has no token: nothing to draw")
    try:
        if output.suffix == ".html":
            output.write_text(explanation_page(explained), encoding="utf-8")
        else:
            write_picture(explained, output)
    except MissingGlyphsError as error:
        raise UsageError(f"--output: {error}; install such a font, or write a page (.html) instead") from error
    except OSError as error:
        raise UsageError(f"--output: {output} cannot be written: {error.strerror}") from error
    print(output)
    return 0


def _explain_in_process(arguments: argparse.Namespace) -> Explanation:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401 - registers the ops of the tokenizer inside the model

    from components import features
    from serving.explanation import explanation
    from serving.messages import text_bytes
    from serving.protocol import fusion_ner_protocol_pb2 as protocol

    folder = model_folder(arguments.model)
    try:
        model = tf.saved_model.load(str(folder))
    except (OSError, tf.errors.OpError) as error:
        raise UsageError(f"--model: {folder} is no exported tagger: {error}") from error
    signature = model.signatures.get(features.EXPLAIN_SIGNATURE)
    if signature is None:
        raise UsageError(f"--model: {folder} has no signature {features.EXPLAIN_SIGNATURE}; export the model again")
    # As a server would answer, so that there is one reader.
    response = protocol.PredictResponse()
    for name, values in signature(**{features.TEXT: tf.constant([text_bytes(arguments.text)])}).items():
        tensor = protocol.TensorProto.FromString(tf.make_tensor_proto(values).SerializeToString())
        response.outputs[name].CopyFrom(tensor)
    return explanation(arguments.text, response)


def _explain_on_server(arguments: argparse.Namespace) -> Explanation:
    from serving.explanation import explain_request, explanation

    with client_of(arguments) as client:
        return explanation(arguments.text, client.predict(explain_request(arguments.text, client.selection)))
