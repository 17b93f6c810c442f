"""`fusion-ner serve`: runs a model server on pushed models until it is stopped."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from pipeline.command_line import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `fusion-ner serve`."""
    parser.add_argument(
        "--model-base-path",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder that holds the version folders, such as OUTPUT/serving/ner",
    )
    parser.add_argument("--model-name", metavar="NAME", help="name of the model; by default that of the folder")
    parser.add_argument("--port", type=int, default=8500, metavar="P", help="port of the gRPC API (default: 8500)")
    parser.add_argument(
        "--rest-api-port", type=int, default=0, metavar="P", help="port of the REST API; 0: off (default)"
    )
    parser.add_argument(
        "--embedded", action="store_true", help="run the embedded server even where TensorFlow Serving is found"
    )
    parser.add_argument("--gpu", action="store_true", help="TensorFlow Serving: take the batching parameters of a GPU")
    parser.add_argument(
        "--no-batching",
        action="store_true",
        help="TensorFlow Serving: do not merge requests; for concurrent requests to `tokens` of different lengths",
    )
    parser.add_argument(
        "--server-flag",
        action="append",
        default=[],
        metavar="FLAG",
        help="a further flag of tensorflow_model_server, such as --server-flag=--file_system_poll_wait_seconds=5",
    )


def main(arguments: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM (status 0), or until the server ends by itself (status 1)."""
    from serving.model_server import ModelServerError, embedded_server, find_model_server, start_model_server

    for name in ("port", "rest_api_port"):
        value = getattr(arguments, name)
        if not 0 <= value <= 65535 or (name == "port" and value == 0):
            raise UsageError(f"--{name.replace('_', '-')}: expected a port number up to 65535; received {value}")
    if arguments.port == arguments.rest_api_port:
        raise UsageError(f"--rest-api-port: expected another port than --port; received {arguments.port} for both")
    base_path = arguments.model_base_path.resolve()
    model_name = arguments.model_name or base_path.name
    asked_to_stop: list[int] = []

    def stop(number: int, _: Any) -> None:
        asked_to_stop.append(number)
        raise _Stop

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        program = embedded_server() if arguments.embedded else find_model_server()
        where = f"gRPC on port {arguments.port}" + (
            f", REST on port {arguments.rest_api_port}" if arguments.rest_api_port else ""
        )
        for option, given in (("--gpu", arguments.gpu), ("--no-batching", arguments.no_batching)):
            if given and program.is_embedded:
                raise UsageError(
                    f"{option} chooses how TensorFlow Serving merges requests, and {program.name} was to be started: "
                    "leave it out, or set TENSORFLOW_MODEL_SERVER to the path of tensorflow_model_server"
                )
        context = start_model_server(
            base_path,
            model_name,
            port=arguments.port,
            rest_api_port=arguments.rest_api_port,
            program=program,
            flags=arguments.server_flag,
            deployment="gpu" if arguments.gpu else "cpu",
            batching=not arguments.no_batching,
            log_to_terminal=True,
        )
        with context as server:
            print(
                f"{program.name} ({' '.join(program.command)}) serves {model_name!r} from {base_path}: {where}",
                flush=True,
            )
            status = server.process.wait()
    except ModelServerError as error:
        raise UsageError(str(error)) from error
    except _Stop:
        return 0
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    print(f"fusion-ner serve: {program.name} ended by itself with status {status}", file=sys.stderr)
    return 1


class _Stop(Exception):  # noqa: N818 -- no error: it carries a signal out of `wait`
    """Raised in the main thread by a signal that asks to stop."""
