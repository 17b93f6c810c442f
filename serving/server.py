"""The embedded server: `python -m serving.server --port=8500 --model_name=ner --model_base_path=/models/ner`.

It takes tensorflow_model_server's flags and answers as TensorFlow Serving 2.16.1 does, on grpcio and TensorFlow: for
laptops, the demo and tests. Batching, TLS, labels, monitoring and the rest belong to TensorFlow Serving itself.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent import futures
from typing import Any

from serving.embedded.flags import FlagError, Flags, parse_flags, usage
from serving.environment import TENSORFLOW_ENVIRONMENT

logger = logging.getLogger("serving.server")

# tensorflow_model_server ends with -1 whatever went wrong at the start.
EXIT_FAILURE = 255

_GRACE_SECONDS = 5.0
_MOST_REQUESTS = 1000
# Requests wait in a thread each until they run together; with fewer threads there is little to merge.
_LEAST_THREADS = 32


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGINT or SIGTERM; returns the exit status: 0 stopped, 255 could not start."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--help" in words:
        print(usage())
        return EXIT_FAILURE
    _log_like_tensorflow()
    try:
        flags, unknown = parse_flags([word for word in words if word != "--version"])
    except FlagError as error:
        logger.error("%s", error)
        return EXIT_FAILURE
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    # TensorFlow's errors come as exceptions; what it prints besides, on a machine without GPU, only looks like errors.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning, module="google.api_core")
    os.environ.update(TENSORFLOW_ENVIRONMENT | os.environ)
    # TensorFlow is imported after the flags are read, so that a mistake in them is told at once.
    import tensorflow as tf

    if "--version" in words:
        print("fusion-ner embedded server, answering as TensorFlow ModelServer 2.16.1")
        print(f"TensorFlow Library: {tf.__version__}")
        return 0
    if unknown:
        print(*(f"unknown argument: {word}" for word in unknown), usage(), sep="\n", file=sys.stderr)

    from serving.embedded.status import StatusError

    try:
        serve(flags, stopping)
    except StatusError as error:
        if stopping.is_set():
            return 0
        print(f"Failed to start server. Error: {error}", flush=True)
        return EXIT_FAILURE
    return 0


def serve(flags: Flags, stopping: threading.Event) -> None:
    """Loads the models, opens the ports, and serves until `stopping` is set.

    As in TensorFlow Serving, the ports open only once every configured model is available.

    Raises:
        StatusError: a flag, file, model or port is not usable.
    """
    from serving.embedded.manager import ManagerOptions, ModelManager
    from serving.embedded.model_config import models_from_file, single_model
    from serving.embedded.status import StatusError
    from serving.embedded.worker import WorkerOptions
    from serving.embedded.workers import Workers

    if not flags.port:
        raise StatusError(
            "INVALID_ARGUMENT",
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set.",
        )
    if flags.model_config_file:
        models = models_from_file(flags.model_config_file)
    else:
        models = single_model(flags.model_name, flags.model_base_path)
        logger.info(
            "Building single TensorFlow model file config:  model_name: %s model_base_path: %s",
            flags.model_name,
            flags.model_base_path,
        )

    parallelism = flags.tensorflow_session_parallelism
    workers = Workers(
        WorkerOptions(
            intra_op_parallelism=parallelism or flags.tensorflow_intra_op_parallelism,
            inter_op_parallelism=parallelism or flags.tensorflow_inter_op_parallelism,
            warm_up_iterations=max(flags.num_request_iterations_for_warmup, 1) if flags.enable_model_warmup else 0,
        )
    )
    manager = ModelManager(
        models,
        workers.load,
        ManagerOptions(
            flags.file_system_poll_wait_seconds, flags.max_num_load_retries, flags.load_retry_interval_micros
        ),
    )
    manager.start()
    if flags.rest_api_port:
        # While the models load, so that both ports open together.
        import serving.embedded.rest_api  # noqa: F401

    def stop_manager() -> None:
        stopping.wait()
        manager.stop()

    threading.Thread(target=stop_manager, name="stop", daemon=True).start()
    manager.wait_until_loaded((model.name for model in models), "servable")
    server = _start_grpc(flags, manager)
    logger.info("Running gRPC ModelServer at 0.0.0.0:%d ...", flags.port)
    rest = _start_rest(flags, manager)
    if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
        threading.Thread(
            target=_poll_config, args=(flags, manager, stopping), name="model-config-file", daemon=True
        ).start()
    stopping.wait()
    logger.info("Stopping: requests under way finish first")
    stopped = server.stop(grace=_GRACE_SECONDS)
    if rest is not None:
        rest_server, rest_thread = rest
        rest_server.should_exit = True
        rest_thread.join(_GRACE_SECONDS)
    stopped.wait()


def _start_grpc(flags: Flags, manager: Any) -> Any:
    import grpc

    from serving.embedded.grpc_api import ServingApi
    from serving.embedded.status import StatusError

    server = grpc.server(
        futures.ThreadPoolExecutor(
            flags.grpc_max_threads or max(4 * (os.cpu_count() or 1), _LEAST_THREADS), thread_name_prefix="grpc"
        ),
        handlers=[ServingApi(manager, health=flags.enable_grpc_healthcheck_service)],
        # Requests beyond the threads wait, but not without bound: each holds its message in memory.
        maximum_concurrent_rpcs=_MOST_REQUESTS,
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            # Without this a second server would share the port in silence.
            ("grpc.so_reuseport", 0),
        ],
    )
    try:
        server.add_insecure_port(f"0.0.0.0:{flags.port}")
    except RuntimeError as error:
        logger.error("Port %d cannot be opened: another program is probably using it (%s)", flags.port, error)
        raise StatusError("INVALID_ARGUMENT", "Failed to BuildAndStart gRPC server") from error
    server.start()
    return server


def _start_rest(flags: Flags, manager: Any) -> Any:
    """Starts the REST API if it is wanted; as in TensorFlow Serving, a failure is logged and gRPC serves on."""
    if not flags.rest_api_port:
        return None
    if flags.rest_api_port == flags.port:
        logger.error(
            "server_options.http_port cannot be same as grpc_port. Please use a different port for HTTP/REST API. "
            "Skipped exporting HTTP/REST API."
        )
        return None
    from serving.embedded.rest_api import RestApi, serve_rest

    threads = flags.rest_api_num_threads or 4 * (os.cpu_count() or 1)
    api = RestApi(manager, timeout_ms=flags.rest_api_timeout_in_ms, threads=threads)
    try:
        rest = serve_rest(api, flags.rest_api_port)
    except OSError as error:
        logger.error("Couldn't bind to port %d: %s", flags.rest_api_port, error.strerror)
        logger.error("Failed to start HTTP Server at localhost:%d", flags.rest_api_port)
        return None
    logger.info("Exporting HTTP/REST API at:localhost:%d ...", flags.rest_api_port)
    return rest


def _poll_config(flags: Flags, manager: Any, stopping: threading.Event) -> None:
    from serving.embedded.model_config import models_from_file
    from serving.embedded.status import StatusError

    while not stopping.wait(flags.model_config_file_poll_wait_seconds):
        try:
            models = models_from_file(flags.model_config_file)
        except StatusError as error:
            logger.error("Failed to read ModelServerConfig file: %s", error.message)
            continue
        if {model.name: model for model in models} != manager.models():
            manager.set_models(models)


class _TensorFlowFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        where = f"{record.name.replace('.', '/')}.py:{record.lineno}"
        line = f"{seconds}.{int(record.msecs * 1000):06d}: {record.levelname[0]} {where}] {record.getMessage()}"
        return line if record.exc_info is None else f"{line}\n{self.formatException(record.exc_info)}"


def _log_like_tensorflow() -> None:
    """Log lines to stderr in the form of tensorflow_model_server's, so that one reader serves both."""
    handler = logging.StreamHandler()
    handler.setFormatter(_TensorFlowFormatter())
    package = logging.getLogger("serving")
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    package.propagate = False


if __name__ == "__main__":
    # Under `-m` this module is `__main__`; importing it by name keeps one copy of it.
    from serving.server import main as run

    status = run()
    sys.stdout.flush()
    # A load under way or a thread of TensorFlow must not hold up the end.
    os._exit(status)
