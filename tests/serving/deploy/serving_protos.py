"""Parses TensorFlow Serving's configuration files with its own messages, as the server does at its start."""

from __future__ import annotations

import tempfile
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from grpc_tools import protoc
from tensorflow_serving.config import model_server_config_pb2

HERE = Path(__file__).resolve().parent


def parse_text(text: str, message_name: str) -> Any:
    """Returns `text` as a message such as "BatchingParameters"; raises text_format.ParseError for an unknown field."""
    return text_format.Parse(text, _message_class(message_name)())


@cache
def _message_class(name: str) -> Any:
    shipped = getattr(model_server_config_pb2, name, None)
    if shipped is not None:
        return shipped
    # A pool of its own: it knows nothing of the modules that tensorflow-serving-api puts in the default one.
    pool = descriptor_pool.DescriptorPool()
    for file in _descriptors().file:
        pool.Add(file)
    descriptor = pool.FindMessageTypeByName(f"tensorflow.serving.{name}")
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


@cache
def _descriptors() -> descriptor_pb2.FileDescriptorSet:
    with tempfile.NamedTemporaryFile(suffix=".binpb") as output:
        arguments = [
            "protoc",
            f"-I{HERE}",
            f"-I{resources.files('grpc_tools') / '_proto'}",
            "--include_imports",
            f"--descriptor_set_out={output.name}",
            "serving_configuration.proto",
        ]
        if protoc.main(arguments):
            raise RuntimeError("protoc failed; its message is above")
        return descriptor_pb2.FileDescriptorSet.FromString(Path(output.name).read_bytes())
