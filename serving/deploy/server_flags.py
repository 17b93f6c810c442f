"""The flags of tensorflow_model_server 2.16.1, and a check of a command line against them before it is rolled out.

TensorFlow Serving only prints a flag that it does not know, and starts without it: a typing mistake in a deployment
would show as missing metrics or missing batching, days later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum


class FlagType(Enum):
    """Type of a flag's value, as TensorFlow's flag parser reads it."""

    BOOLEAN = "true or false"
    INTEGER = "a whole number"
    FLOAT = "a number"
    TEXT = "text"


_BOOLEAN, _INTEGER, _FLOAT, _TEXT = FlagType.BOOLEAN, FlagType.INTEGER, FlagType.FLOAT, FlagType.TEXT

# tensorflow_serving/model_servers/main.cc at tag 2.16.1.
FLAGS: Mapping[str, FlagType] = {
    "port": _INTEGER,
    "grpc_socket_path": _TEXT,
    "rest_api_port": _INTEGER,
    "rest_api_num_threads": _INTEGER,
    "rest_api_timeout_in_ms": _INTEGER,
    "rest_api_enable_cors_support": _BOOLEAN,
    "model_name": _TEXT,
    "model_base_path": _TEXT,
    "model_config_file": _TEXT,
    "model_config_file_poll_wait_seconds": _INTEGER,
    "file_system_poll_wait_seconds": _INTEGER,
    "max_num_load_retries": _INTEGER,
    "load_retry_interval_micros": _INTEGER,
    "num_load_threads": _INTEGER,
    "num_unload_threads": _INTEGER,
    "enable_batching": _BOOLEAN,
    "batching_parameters_file": _TEXT,
    "enable_per_model_batching_parameters": _BOOLEAN,
    "monitoring_config_file": _TEXT,
    "grpc_channel_arguments": _TEXT,
    "grpc_max_threads": _INTEGER,
    "ssl_config_file": _TEXT,
    "enable_model_warmup": _BOOLEAN,
    "num_request_iterations_for_warmup": _INTEGER,
    "allow_version_labels_for_unavailable_models": _BOOLEAN,
    "saved_model_tags": _TEXT,
    "tensorflow_session_parallelism": _INTEGER,
    "tensorflow_intra_op_parallelism": _INTEGER,
    "tensorflow_inter_op_parallelism": _INTEGER,
    "tensorflow_session_config_file": _TEXT,
    "per_process_gpu_memory_fraction": _FLOAT,
    "platform_config_file": _TEXT,
    "enable_grpc_healthcheck_service": _BOOLEAN,
    "enable_profiler": _BOOLEAN,
    "enable_signature_method_name_check": _BOOLEAN,
    "flush_filesystem_caches": _BOOLEAN,
    "xla_cpu_compilation_enabled": _BOOLEAN,
    "prefer_tflite_model": _BOOLEAN,
    "version": _BOOLEAN,
}

_PARSERS: Mapping[FlagType, Callable[[str], object]] = {
    FlagType.BOOLEAN: {"true": True, "1": True, "false": False, "0": False}.__getitem__,
    FlagType.INTEGER: int,
    FlagType.FLOAT: float,
    FlagType.TEXT: str,
}


def flag_values(arguments: Sequence[str]) -> dict[str, str]:
    """Returns the values of `--name=value` and `--name` (true) by name; other words are left out.

    Example:
        >>> flag_values(["--port=8500", "--enable_batching"])
        {'port': '8500', 'enable_batching': 'true'}
    """
    values = {}
    for argument in arguments:
        if argument.startswith("--"):
            name, assigned, value = argument[2:].partition("=")
            values[name] = value if assigned else "true"
    return values


def flag_problems(arguments: Sequence[str]) -> list[str]:
    """Returns what tensorflow_model_server 2.16.1 would refuse, ignore or misread in its arguments; empty if nothing.

    Example:
        >>> flag_problems(["--port=8500", "--model_name=ner", "--model_base_path=/models/ner", "--enable_baching"])
        ['--enable_baching: no flag of tensorflow_model_server 2.16.1, which would print it and start without it']
    """
    problems = []
    for argument in arguments:
        name, assigned, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in FLAGS:
            problems.append(
                f"{argument}: no flag of tensorflow_model_server 2.16.1, which would print it and start without it"
            )
            continue
        kind = FLAGS[name]
        try:
            _PARSERS[kind](value if assigned or kind is not FlagType.BOOLEAN else "true")
        except (KeyError, ValueError):
            problems.append(f"--{name}: expected {kind.value}; received {value!r}")
    return problems or _contradictions(flag_values(arguments))


def _contradictions(values: Mapping[str, str]) -> list[str]:
    problems = []
    port, rest_port = int(values.get("port", "8500")), int(values.get("rest_api_port", "0"))
    if port == 0 and not values.get("grpc_socket_path"):
        problems.append("--port=0: needs --grpc_socket_path, or the start fails")
    if rest_port and rest_port == port:
        problems.append("--rest_api_port: expected another port than --port; the REST API would stay off")
    if not values.get("model_config_file") and not values.get("model_base_path"):
        problems.append("--model_config_file or --model_base_path: expected one of them; the start fails without")
    base_path = values.get("model_base_path", "/")
    if not base_path.startswith("/") and "://" not in base_path:
        problems.append(f"--model_base_path: expected an absolute path or a URI; received {base_path!r}")
    if values.get("model_config_file"):
        problems += [
            f"--{name}: ignored beside --model_config_file"
            for name in ("model_name", "model_base_path")
            if name in values
        ]
    batching = values.get("enable_batching", "false") in ("true", "1")
    if values.get("batching_parameters_file") and not batching:
        problems.append("--batching_parameters_file: needs --enable_batching, or the start fails")
    if values.get("monitoring_config_file") and not rest_port:
        problems.append("--monitoring_config_file: needs --rest_api_port, which serves the metrics")
    parallelism = [f"tensorflow_{kind}_parallelism" for kind in ("session", "intra_op", "inter_op")]
    if all(int(values.get(name, "0")) for name in parallelism):
        problems.append("--tensorflow_session_parallelism: expected it alone, or the intra_op and inter_op flags")
    for item in filter(None, values.get("grpc_channel_arguments", "").split(",")):
        if "=" not in item:
            problems.append(f"--grpc_channel_arguments: expected key=value items; received {item!r}")
    return problems
