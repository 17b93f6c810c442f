"""Predict and GetModelMetadata on one loaded model: checks, order and words of TensorFlow Serving 2.16.1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

from serving.embedded.json_prediction import request_from_json, response_to_json
from serving.embedded.saved_model import DEFAULT_SIGNATURE, LoadedModel
from serving.embedded.status import StatusError
from serving.embedded.tensors import TensorParsingError, array_from_proto, write_array


@dataclass(frozen=True)
class Prediction:
    """A checked request: what to run, and how its answer is written.

    Args:
        signature_name: one of the model's signatures.
        inputs: an array for each of its inputs.
        output_names: the outputs to fetch.
        write: makes the answer of the outputs' arrays; raises StatusError.
    """

    signature_name: str
    inputs: Mapping[str, Any]
    output_names: Sequence[str]
    write: Callable[[Sequence[Any]], bytes]


def read_request(signatures: Mapping[str, Any], request: Any, version: int) -> Prediction:
    """Checks a PredictRequest against a model's signatures; its answer is a PredictResponse.

    Raises:
        StatusError: what TensorFlow Serving would answer.
    """
    signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = signatures.get(signature_name)
    if signature is None:
        raise StatusError("FAILED_PRECONDITION", f'Serving signature key "{signature_name}" not found.')
    _check_input_names(request.inputs, signature.inputs)
    inputs = {alias: _array(alias, request.inputs[alias]) for alias in sorted(signature.inputs)}
    output_names = output_selection(request.output_filter, signature.outputs)

    def write(values: Sequence[Any]) -> bytes:
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.signature_name = signature_name
        response.model_spec.version.value = version
        for name, value in zip(output_names, values, strict=True):
            write_array(value, signature.outputs[name].dtype, response.outputs[name])
        return bytes(response.SerializeToString())

    return Prediction(signature_name, inputs, output_names, write)


def read_json(signatures: Mapping[str, Any], body: bytes) -> Prediction:
    """Checks the body of a REST predict request against a model's signatures; its answer is JSON.

    Raises:
        StatusError: what TensorFlow Serving would answer.
    """

    def input_types(signature_name: str) -> dict[str, int]:
        signature = signatures.get(signature_name or DEFAULT_SIGNATURE)
        if signature is None:
            raise StatusError(
                "INVALID_ARGUMENT", f'Serving signature name: "{signature_name}" not found in signature def'
            )
        return {name: tensor.dtype for name, tensor in sorted(signature.inputs.items())}

    request = request_from_json(body, input_types)
    signature_name = request.signature_name or DEFAULT_SIGNATURE
    outputs = signatures[signature_name].outputs
    names = sorted(outputs)

    def write(values: Sequence[Any]) -> bytes:
        answer = {name: (value, outputs[name].dtype) for name, value in zip(names, values, strict=True)}
        return response_to_json(answer, row_format=request.row_format)

    return Prediction(signature_name, request.inputs, names, write)


def predict(model: LoadedModel, request: Any, version: int) -> bytes:
    """Returns the PredictResponse of `model` to a PredictRequest, serialized.

    Raises:
        StatusError: what TensorFlow Serving would answer.
    """
    prediction = read_request(model.signatures, request, version)
    return prediction.write(model.run(prediction.signature_name, prediction.inputs, prediction.output_names))


def model_metadata(signatures: Mapping[str, Any], model_name: str, version: int) -> Any:
    """Returns the GetModelMetadataResponse with the signatures of a model."""
    signature_map = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in signatures.items():
        signature_map.signature_def[name].CopyFrom(signature)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = model_name
    response.model_spec.version.value = version
    response.metadata["signature_def"].Pack(signature_map)
    return response


def output_selection(output_filter: Sequence[str], outputs: Iterable[str]) -> list[str]:
    """Returns the outputs to fetch: those of the filter, or all.

    Raises:
        StatusError: the filter names an output twice, or one that is not there.
    """
    known = sorted(outputs)
    selected: list[str] = []
    for name in output_filter:
        if name not in known:
            raise StatusError(
                "INVALID_ARGUMENT",
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {{{','.join(known)}}}.",
            )
        if name in selected:
            raise StatusError("INVALID_ARGUMENT", f"duplicate output tensor alias: {name}")
        selected.append(name)
    return selected or known


def _check_input_names(sent: Any, expected: Any) -> None:
    def names(items: Iterable[str]) -> str:
        return "{" + ",".join(sorted(items)) + "}"

    if len(sent) != len(expected):
        extra, missing = set(sent) - set(expected), set(expected) - set(sent)
        raise StatusError(
            "INVALID_ARGUMENT",
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({names(sent)}) != len({names(expected)}). "
            f"Sent extra: {names(extra)}. Missing but required: {names(missing)}.",
        )
    for alias in sorted(expected):
        if alias not in sent:
            raise StatusError(
                "INVALID_ARGUMENT",
                f"Signature input alias: {alias}(feed name: {expected[alias].name}) not found in request "
                f"and no default value provided. Inputs expected to be in the request {names(sent)}, "
                "or default input alias set: ",
            )


def _array(alias: str, proto: Any) -> Any:
    try:
        return array_from_proto(proto)
    except TensorParsingError as error:
        raise StatusError("INVALID_ARGUMENT", f"tensor parsing error: {alias}") from error
