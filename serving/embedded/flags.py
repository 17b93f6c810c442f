"""Flags of the embedded server: tensorflow_model_server's names; those it cannot honour are refused with the reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class FlagError(Exception):
    """Raised for a flag that cannot be read or honoured; the message says which and why."""


@dataclass(frozen=True)
class Flags:
    """Values of the supported flags; names, meanings and defaults are tensorflow_model_server's."""

    port: int = dataclasses.field(default=8500, metadata={"help": "TCP port of the gRPC API"})
    rest_api_port: int = dataclasses.field(default=0, metadata={"help": "TCP port of the REST API; 0: no REST API"})
    rest_api_num_threads: int = dataclasses.field(default=0, metadata={"help": "threads for REST; 0: 4 x CPUs"})
    rest_api_timeout_in_ms: int = dataclasses.field(default=30000, metadata={"help": "time limit of a REST request"})
    model_name: str = dataclasses.field(default="default", metadata={"help": "name of the model"})
    model_base_path: str = dataclasses.field(default="", metadata={"help": "folder that holds the version folders"})
    model_config_file: str = dataclasses.field(
        default="", metadata={"help": "text ModelServerConfig; then model_name and model_base_path are ignored"}
    )
    model_config_file_poll_wait_seconds: int = dataclasses.field(
        default=0, metadata={"help": "seconds between looks at model_config_file; 0: once"}
    )
    file_system_poll_wait_seconds: int = dataclasses.field(
        default=1, metadata={"help": "seconds between looks for new versions; 0: once"}
    )
    max_num_load_retries: int = dataclasses.field(default=5, metadata={"help": "retries of a load that failed"})
    load_retry_interval_micros: int = dataclasses.field(
        default=60_000_000, metadata={"help": "microseconds between retries"}
    )
    grpc_max_threads: int = dataclasses.field(
        default=0, metadata={"help": "threads for gRPC; 0: 4 x CPUs, at least 32"}
    )
    enable_grpc_healthcheck_service: bool = dataclasses.field(default=False, metadata={"help": "serve grpc.health.v1"})
    enable_model_warmup: bool = dataclasses.field(
        default=True, metadata={"help": "replay assets.extra/tf_serving_warmup_requests before a version serves"}
    )
    num_request_iterations_for_warmup: int = dataclasses.field(
        default=0, metadata={"help": "times each warm-up request is sent; 0: once"}
    )
    tensorflow_session_parallelism: int = dataclasses.field(
        default=0, metadata={"help": "threads of TensorFlow, within and between ops; 0: as for each of them"}
    )
    tensorflow_intra_op_parallelism: int = dataclasses.field(
        default=0,
        metadata={
            "help": "threads of TensorFlow within an op; 0: one a core, and one for small models on one or two cores"
        },
    )
    tensorflow_inter_op_parallelism: int = dataclasses.field(
        default=0, metadata={"help": "threads of TensorFlow between ops; 0: it decides"}
    )


# name -> (TensorFlow Serving's default, which is accepted; why anything else is refused)
_BATCHING = "batching requests belongs to TensorFlow Serving"
_LABELS = "version labels belong to TensorFlow Serving"
_TLS = "TLS belongs to TensorFlow Serving"
_SESSION = "this setting of the session belongs to TensorFlow Serving"
REFUSED: dict[str, tuple[str, str]] = {
    "enable_batching": ("false", _BATCHING),
    "batching_parameters_file": ("", _BATCHING),
    "enable_per_model_batching_parameters": ("false", _BATCHING),
    "allow_version_labels_for_unavailable_models": ("false", _LABELS),
    "ssl_config_file": ("", _TLS),
    "monitoring_config_file": ("", "monitoring belongs to TensorFlow Serving"),
    "rest_api_enable_cors_support": ("false", "CORS belongs to TensorFlow Serving"),
    "grpc_socket_path": ("", "Unix sockets belong to TensorFlow Serving"),
    "grpc_channel_arguments": ("", "channel arguments belong to TensorFlow Serving"),
    "platform_config_file": ("", "platform configuration belongs to TensorFlow Serving"),
    "tensorflow_session_config_file": ("", _SESSION),
    "per_process_gpu_memory_fraction": ("0", _SESSION),
    "xla_cpu_compilation_enabled": ("false", _SESSION),
    "saved_model_tags": ("serve", "other tags than serve belong to TensorFlow Serving"),
    "enable_signature_method_name_check": ("false", "checks of method names belong to TensorFlow Serving"),
    "prefer_tflite_model": ("false", "TensorFlow Lite belongs to TensorFlow Serving"),
    "num_load_threads": ("0", "loading in parallel belongs to TensorFlow Serving"),
    "num_unload_threads": ("0", "unloading in parallel belongs to TensorFlow Serving"),
}
# Accepted with any value: what they switch does not exist here.
_WITHOUT_EFFECT = {"enable_profiler", "flush_filesystem_caches"}

_BOOLEANS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


def parse_flags(arguments: Sequence[str]) -> tuple[Flags, list[str]]:
    """Reads flags of the forms `--name=value`, `--name value` and, for booleans, `--name`.

    Returns:
        the values, and the arguments that are unknown: tensorflow_model_server names those and goes on.

    Raises:
        FlagError: a value cannot be read, or the flag asks for what only TensorFlow Serving itself does.
    """
    fields = {field.name: field for field in dataclasses.fields(Flags)}
    values: dict[str, Any] = {}
    unknown: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        name, equals, text = word.partition("=")
        name = name[2:] if name.startswith("--") else ""
        if name in fields:
            kind = type(fields[name].default)
            if not equals:
                if kind is bool:
                    text = "true"
                elif words and not words[0].startswith("--"):
                    text = words.pop(0)
                else:
                    raise FlagError(f"--{name}: expected a value, as in --{name}={fields[name].default}")
            values[name] = _parse(name, text, kind)
        elif name in REFUSED:
            default, reason = REFUSED[name]
            value = text if equals else "true"
            if value.lower() != default and _BOOLEANS.get(value.lower(), value) != _BOOLEANS.get(default, default):
                raise FlagError(
                    f"--{name}: {reason}; the embedded server cannot do it. Run tensorflow_model_server "
                    "(put it on the PATH or set TENSORFLOW_MODEL_SERVER), or leave the flag out."
                )
        elif name not in _WITHOUT_EFFECT:
            unknown.append(word)
    flags = Flags(**values)
    if flags.tensorflow_session_parallelism and (
        flags.tensorflow_intra_op_parallelism or flags.tensorflow_inter_op_parallelism
    ):
        raise FlagError(
            "--tensorflow_session_parallelism: expected either this flag or --tensorflow_intra_op_parallelism and "
            "--tensorflow_inter_op_parallelism, not both"
        )
    return flags, unknown


def usage() -> str:
    """Returns the list of flags in tensorflow_model_server's form."""
    lines = ["usage: python -m serving.server", "Flags:"]
    for field in dataclasses.fields(Flags):
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        lines.append(f"\t--{field.name}={default:<12}\t{field.metadata['help']}")
    lines.append("\t--version\tprint the versions and exit")
    return "\n".join(lines)


def _parse(name: str, text: str, kind: type) -> Any:
    if kind is str:
        return text
    if kind is bool:
        if text.lower() not in _BOOLEANS:
            raise FlagError(f"Couldn't interpret value {text} for flag {name}.")
        return _BOOLEANS[text.lower()]
    try:
        return int(text)
    except ValueError:
        raise FlagError(f"Couldn't interpret value {text} for flag {name}.") from None
