"""The trial: a model server in a process of its own answers real requests as the model does in this process."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers the ops of the tokenizer inside the model
from google.protobuf.message import DecodeError

from components.features import SERVING_SIGNATURE
from components.infra_validator.comparison import difference
from components.infra_validator.probes import Probe, make_probes
from components.infra_validator.settings import InfraValidatorSettings
from components.trainer.warm_up import read_warm_up

if TYPE_CHECKING:
    from serving.client import Client
    from serving.model_server import ModelServer, ServerProgram

Tensors = dict[str, np.ndarray]

# Both sides compute on the processor. This process may hold all memory of the GPU, since training ran in it, and matrix
# products are rounded otherwise there.
_ON_THE_PROCESSOR = {"CUDA_VISIBLE_DEVICES": "-1"}


@dataclasses.dataclass(frozen=True)
class Latency:
    """Times of the requests to `serving_default` with the same number of texts, in milliseconds, over gRPC."""

    texts: int
    requests: int
    median_milliseconds: float
    longest_milliseconds: float


@dataclasses.dataclass(frozen=True)
class Validation:
    """The outcome of a trial.

    Args:
        server: the program that was tried.
        requests: how many requests were answered as the model answers.
        load_seconds: from the start of the server until the model was available; None if it never was.
        latencies: one for each number of texts.
        refusals: why the model is refused, one sentence each; empty if it is blessed.
    """

    server: str
    requests: int = 0
    load_seconds: float | None = None
    latencies: tuple[Latency, ...] = ()
    refusals: tuple[str, ...] = ()

    @property
    def blessed(self) -> bool:
        return not self.refusals


def validate(
    model: str | os.PathLike[str], examples: Sequence[bytes], settings: InfraValidatorSettings, model_name: str
) -> Validation:
    """Starts a model server on `model`, sends it every probe and compares the answers with the model's own.

    Args:
        model: the folder of the SavedModel.
        examples: serialized examples, whose texts are sent.
        settings: the server, the batch sizes and the bounds.
        model_name: the name under which the model is served.
    """
    from serving.errors import ServingError
    from serving.model_server import ModelServerError, start_model_server

    try:
        program = _program(settings)
    except ModelServerError as error:
        return Validation(server=settings.server, refusals=(str(error),))
    too_large = _too_large_warm_up(pathlib.Path(model), settings)
    if too_large is not None:
        return Validation(server=program.name, refusals=(too_large,))
    with tempfile.TemporaryDirectory(prefix="infra-validation-") as folder:
        base_path = pathlib.Path(folder) / model_name
        base_path.mkdir()
        (base_path / "1").symlink_to(pathlib.Path(model).resolve(), target_is_directory=True)
        validation = Validation(server=program.name)
        try:
            start = time.monotonic()
            with start_model_server(
                base_path,
                model_name,
                program=program,
                deployment=settings.deployment,
                environment=_ON_THE_PROCESSOR,
            ) as server:
                # While the server loads the model, so does this process.
                expected = _answers(pathlib.Path(model), examples, settings)
                if not any(probe.signature == SERVING_SIGNATURE for probe, _ in expected):
                    return dataclasses.replace(
                        validation, refusals=(f"the model has no signature {SERVING_SIGNATURE}",)
                    )
                server.wait_until_available(max(settings.load_seconds - (time.monotonic() - start), 0.1))
                validation = dataclasses.replace(validation, load_seconds=round(time.monotonic() - start, 2))
                return _compare(server, expected, settings, validation)
        except (ModelServerError, ServingError) as error:
            return dataclasses.replace(validation, refusals=(f"{type(error).__name__}: {error}",))


def _program(settings: InfraValidatorSettings) -> ServerProgram:
    from serving.model_server import ModelServerError, embedded_server, find_model_server

    if settings.server == "embedded":
        return embedded_server()
    program = find_model_server()
    if settings.server == "tensorflow_model_server" and program.is_embedded:
        raise ModelServerError(
            "tensorflow_model_server was not found: set TENSORFLOW_MODEL_SERVER to its path, or let the setting "
            "infra_validator.server be auto or embedded"
        )
    return program


def _too_large_warm_up(model: pathlib.Path, settings: InfraValidatorSettings) -> str | None:
    """Returns why TensorFlow Serving would refuse the warm-up requests of the model; None if it would not.

    It merges them like others: one that is larger than a batch may be fails, and with it the version. A file that
    cannot be read is left to the server, which refuses it in its own words.
    """
    from serving.deploy.production import batching_file, max_batch_size

    try:
        requests = read_warm_up(model)
    except (DecodeError, tf.errors.DataLossError):
        return None
    rows = [tensor.tensor_shape.dim[0].size for each in requests for tensor in each.inputs.values()]
    largest, allowed = max(rows, default=0), max_batch_size(settings.deployment)
    if largest <= allowed:
        return None
    return (
        f"a warm-up request has {largest} texts, and {batching_file(settings.deployment).name} allows {allowed}: with "
        "it tensorflow_model_server would refuse the version. Set trainer.serving_warm_up.batch_sizes to at most "
        f"{allowed}, or infra_validator.deployment to the device that will serve"
    )


def _answers(
    model: pathlib.Path, examples: Sequence[bytes], settings: InfraValidatorSettings
) -> list[tuple[Probe, Tensors]]:
    """Returns each probe with what the model returns in this process."""
    with tf.device("/CPU:0"):
        loaded = tf.saved_model.load(str(model))
        return [
            (probe, {name: tensor.numpy() for name, tensor in _call(loaded.signatures[probe.signature], probe).items()})
            for probe in make_probes(examples, settings.batch_sizes, sorted(loaded.signatures))
        ]


def _call(signature: Any, probe: Probe) -> Mapping[str, tf.Tensor]:
    return signature(**{name: tf.constant(array) for name, array in probe.inputs.items()})


def _compare(
    server: ModelServer,
    expected: Sequence[tuple[Probe, Tensors]],
    settings: InfraValidatorSettings,
    validation: Validation,
) -> Validation:
    from serving.client import Client, ConnectionSettings

    connection = ConnectionSettings(timeout=settings.request_seconds)
    seconds: dict[int, list[float]] = {}
    warmed: set[str] = set()
    # The client is closed before the pool, which ends a request that nobody answers any more.
    with (
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        Client(server.target, model_name=server.model_name, settings=connection) as client,
    ):
        for count, (probe, tensors) in enumerate(expected):
            received, elapsed = _result(pool.submit(_predict, client, probe), server)
            found = difference(tensors, received, settings.tolerance)
            if found is not None:
                return dataclasses.replace(
                    validation, requests=count, refusals=(f"{validation.server} answers {probe} otherwise: {found}",)
                )
            # TensorFlow optimizes a graph at its first call, which says nothing about the later ones.
            if probe.signature == SERVING_SIGNATURE and probe.signature in warmed:
                seconds.setdefault(probe.texts, []).append(elapsed)
            warmed.add(probe.signature)
    latencies = tuple(
        Latency(texts, len(each), round(1000 * statistics.median(each), 2), round(1000 * max(each), 2))
        for texts, each in sorted(seconds.items())
    )
    return dataclasses.replace(
        validation, requests=len(expected), latencies=latencies, refusals=_too_slow(latencies, settings)
    )


def _result(future: concurrent.futures.Future[tuple[Tensors, float]], server: ModelServer) -> tuple[Tensors, float]:
    """Waits for an answer, but not for one of a server that has ended."""
    from serving.model_server import ModelServerError

    while not concurrent.futures.wait([future], timeout=0.2).done:
        status = server.process.poll()
        if status is not None:
            raise ModelServerError(f"{server.program.name} ended with status {status} while it was asked")
    return future.result()


def _too_slow(latencies: Sequence[Latency], settings: InfraValidatorSettings) -> tuple[str, ...]:
    bound = settings.maximum_milliseconds
    return tuple(
        f"the median request with one text takes {latency.median_milliseconds} ms, the bound is {bound:g} ms"
        for latency in latencies
        if bound is not None and latency.texts == 1 and latency.median_milliseconds > bound
    )


def _predict(client: Client, probe: Probe) -> tuple[Tensors, float]:
    """Sends a probe; returns the outputs and the seconds that the answer took."""
    from serving.messages import model_spec
    from serving.protocol import fusion_ner_protocol_pb2 as protocol

    request = protocol.PredictRequest(model_spec=model_spec(client.selection, probe.signature))
    for name, array in probe.inputs.items():
        request.inputs[name].ParseFromString(tf.make_tensor_proto(array).SerializeToString())
    start = time.monotonic()
    response = client.predict(request)
    elapsed = time.monotonic() - start
    outputs = {}
    for name, message in response.outputs.items():
        tensor = tf.make_tensor_proto(0)
        tensor.ParseFromString(message.SerializeToString())
        outputs[name] = tf.make_ndarray(tensor)
    return outputs, elapsed
