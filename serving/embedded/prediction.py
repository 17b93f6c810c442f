"""Predict and GetModelMetadata on one loaded model: checks, order and words of TensorFlow Serving 2.16.1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

from serving.embedded.saved_model import DEFAULT_SIGNATURE, LoadedModel
from serving.embedded.status import StatusError
from serving.embedded.tensors import TensorParsingError, array_from_proto, proto_from_array


def predict(model: LoadedModel, request: Any, version: int) -> Any:
    """Returns the PredictResponse of `model` to a PredictRequest.

    Raises:
        StatusError: what TensorFlow Serving would answer.
    """
    signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = model.signatures.get(signature_name)
    if signature is None:
        raise StatusError("FAILED_PRECONDITION", f'Serving signature key "{signature_name}" not found.')
    _check_input_names(request.inputs, signature.inputs)
    inputs = {alias: _array(alias, request.inputs[alias]) for alias in sorted(signature.inputs)}
    output_names = output_selection(request.output_filter, signature.outputs)
    response = predict_pb2.PredictResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.signature_name = signature_name
    response.model_spec.version.value = version
    for name, value in zip(output_names, model.run(signature_name, inputs, output_names), strict=True):
        response.outputs[name].CopyFrom(proto_from_array(value, signature.outputs[name].dtype))
    return response


def model_metadata(model: LoadedModel, model_name: str, version: int) -> Any:
    """Returns the GetModelMetadataResponse with the signatures of `model`."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in model.signatures.items():
        signatures.signature_def[name].CopyFrom(signature)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = model_name
    response.model_spec.version.value = version
    response.metadata["signature_def"].Pack(signatures)
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
