"""`fusion-ner batch`: tags files of texts with Apache Beam."""

from __future__ import annotations

import argparse
import sys

from pipeline.command_line import UsageError

# Whatever the parser does not know goes to Apache Beam.
TAKES_MORE_OPTIONS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `fusion-ner batch`."""
    parser.epilog = "Further options go to Apache Beam: --direct_num_workers=4 --direct_running_mode=multi_processing."
    parser.add_argument("--input", required=True, action="append", metavar="GLOB", help="files of texts; repeatable")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the results; continued if it exists")
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", metavar="DIR", help="an exported tagger, or a folder of versions: the newest")
    model.add_argument("--target", metavar="HOST:PORT", help="a model server in place of the model in the worker")
    parser.add_argument("--model-name", default="ner", metavar="NAME", help="name of the model on the server (ner)")
    parser.add_argument("--model-version", type=int, metavar="N", help="version on the server; default: the newest")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="S", help="seconds for each request (30)")
    parser.add_argument(
        "--input-format", choices=["auto", "text", "json_lines"], default="auto", help="default: by the file's ending"
    )
    parser.add_argument("--text-field", default="text", metavar="NAME", help="field of JSON objects (text)")
    parser.add_argument("--output-format", choices=["json_lines", "parquet"], default="json_lines")
    parser.add_argument("--shard-bytes", type=int, default=4 << 20, metavar="N", help="input of one shard (4 MiB)")


def main(arguments: argparse.Namespace) -> int:
    """Tags what is not tagged yet; status 1 if the work failed or lines could not be read."""
    from components.batch_tagging.job import run
    from components.batch_tagging.settings import BatchSettings
    from components.batch_tagging.shards import BatchError
    from components.settings import SettingsError

    names = ("model", "target", "model_name", "model_version", "input_format")
    more_names = ("timeout", "text_field", "output_format", "shard_bytes")
    try:
        settings = BatchSettings(
            input=tuple(arguments.input),
            output=arguments.output,
            **{name: getattr(arguments, name) for name in (*names, *more_names)},
        )
        summary = run(settings, arguments.more_options)
    except (SettingsError, BatchError) as error:
        raise UsageError(str(error)) from error
    except Exception as error:
        # Whatever stopped a worker; the shards that are done stay done.
        print(f"fusion-ner batch: {error}\nthe same command continues where this one stopped", file=sys.stderr)
        return 1
    counts, seconds = summary.counts, summary.seconds
    print(
        f"{counts.texts} texts, {counts.entities} entities, {counts.errors} lines that could not be read; "
        f"{summary.shards} shards, {summary.taken_over} of them from an earlier run; {seconds:.1f} s"
    )
    if counts.errors:
        print(f"the lines that could not be read have an `error` in {arguments.output}", file=sys.stderr)
    return 1 if counts.errors else 0
