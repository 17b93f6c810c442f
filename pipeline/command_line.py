"""The `fusion-ner` command: a table of subcommands, each imported only when it is called."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Sequence

# name -> (module with `add_arguments(parser)` and `main(arguments) -> int`, help).
# The modules import heavy packages inside `main`.
SUBCOMMANDS = {
    "run": ("pipeline.commands.run", "run the pipeline locally, from annotated text to a pushed model"),
    "tokenize": ("pipeline.commands.tokenize", "tokenize text with the graph that Transform uses"),
    "tag": ("pipeline.commands.tag", "tag text through a model server"),
    "score": ("pipeline.commands.score", "score a model against gold annotations, strictly and by entity"),
    "explain": ("pipeline.commands.explain", "draw which encoder layers each token of a text is read from"),
    "batch": ("pipeline.commands.batch", "tag files of texts at scale, with the model in the workers or a server"),
    "serve": ("pipeline.commands.serve", "serve pushed models over TF Serving's gRPC API"),
    "convert": ("pipeline.commands.convert", "make a served model of a TensorFlow 1 checkpoint of the seed's code"),
    "models": ("pipeline.commands.models", "list the versions in a serving folder"),
    "rollback": ("pipeline.commands.rollback", "make an earlier version of a model the newest again"),
    "kubeflow": ("pipeline.commands.kubeflow", "compile, verify and schedule the pipeline on Kubeflow Pipelines"),
}

# Subcommands that compute in this process and talk to people: TensorFlow's dozen lines about CPUs and GPUs stay away
# from the terminal. `run` has a log for them; `serve` hands its environment to a server, whose log they belong to.
QUIET_SUBCOMMANDS = ("tokenize", "score", "explain", "batch", "convert")


class UsageError(Exception):
    """Raised by a subcommand for what the user can mend; the command prints its text and exits with 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit status: 0 done, 1 the work failed, 2 wrong input."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="fusion-ner", description="Named-entity tagging on TensorFlow, from corpus to server."
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module_name, help_text) in SUBCOMMANDS.items():
        subparser = subparsers.add_parser(name, help=help_text, description=help_text)
        if words[:1] == [name]:
            importlib.import_module(module_name).add_arguments(subparser)
    arguments, more_options = parser.parse_known_args(words)
    # Read when TensorFlow is imported, here and in the servers and workers that a subcommand starts.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if arguments.command in QUIET_SUBCOMMANDS:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # Google's packages regret CPython 3.10, which docs/decisions chose.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.")
    module = importlib.import_module(SUBCOMMANDS[arguments.command][0])
    if more_options and not getattr(module, "TAKES_MORE_OPTIONS", False):
        parser.error(f"unrecognized arguments: {' '.join(more_options)}")
    arguments.more_options = more_options
    try:
        return module.main(arguments)
    except UsageError as error:
        print(f"fusion-ner {arguments.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    # Run as a script this module is `__main__`, and the subcommands raise the UsageError of `pipeline.command_line`.
    sys.exit(importlib.import_module("pipeline.command_line").main())
