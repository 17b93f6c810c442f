"""The pure half of the clients: texts into requests, responses into typed results. No sockets, no TensorFlow.

Axes: B texts of one request; E entities of the widest row of a response.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from components import features
from serving.errors import MalformedResponse
from serving.protocol import fusion_ner_protocol_pb2 as protocol

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Entity:
    """An entity of a text: `text[start:end]`, in code points, end exclusive, with its type and the model's score."""

    start: int
    end: int
    type: str
    text: str
    score: float


@dataclass(frozen=True)
class TaggedText:
    """A text and its entities in the order of their starts; `model_version` tells which version answered."""

    text: str
    entities: tuple[Entity, ...]
    model_version: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ModelSelection:
    """Which model of the server: its name and, if wanted, one version or one label (not both)."""

    name: str
    version: int | None = None
    version_label: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("model_name: expected the name of a served model; received an empty string")
        if self.version is not None and self.version_label is not None:
            raise ValueError(
                f"expected a version or a version label, not both; received {self.version} and {self.version_label!r}"
            )

    def __str__(self) -> str:
        if self.version is not None:
            return f"model {self.name!r} version {self.version}"
        return f"model {self.name!r}" + (f" label {self.version_label!r}" if self.version_label is not None else "")


@dataclass(frozen=True)
class VersionStatus:
    """State of one version on the server: START, LOADING, AVAILABLE, UNLOADING or END; and its error, if any."""

    version: int
    state: str
    error_code: int
    error_message: str


@dataclass(frozen=True)
class TensorSpecification:
    """Type and shape of a tensor of a signature; None stands for an axis of any length, a None shape for any rank."""

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of one signature, by name."""

    inputs: dict[str, TensorSpecification]
    outputs: dict[str, TensorSpecification]


@dataclass(frozen=True)
class ModelMetadata:
    """What the server says about a model: the version that answered and the signatures by name."""

    version: int
    signatures: dict[str, Signature]


def text_bytes(text: str) -> bytes:
    """Returns `text` as UTF-8; a lone surrogate, which has no UTF-8 form, becomes U+FFFD, so that offsets stay true."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return _LONE_SURROGATE.sub("�", text).encode("utf-8")


def batch_texts(texts: Iterable[str], *, max_texts: int, max_characters: int) -> Iterator[list[str]]:
    """Cuts `texts` into runs of at most `max_texts` texts and `max_characters` characters, lazily and in order.

    A text longer than `max_characters` makes a run of its own.

    Raises:
        TypeError: an element is no string; the message gives its position.

    Example:
        >>> list(batch_texts(["ab", "c", "defg"], max_texts=8, max_characters=3))
        [['ab', 'c'], ['defg']]
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"expected several texts; received one {type(texts).__name__}: pass [text]")
    batch: list[str] = []
    characters = 0
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {position}: expected a string; received {type(text).__name__}")
        if batch and (len(batch) == max_texts or characters + len(text) > max_characters):
            yield batch
            batch, characters = [], 0
        batch.append(text)
        characters += len(text)
    if batch:
        yield batch


def model_spec(selection: ModelSelection, signature_name: str = "") -> Any:
    """Returns the ModelSpec of `selection`; version 0 is a version, not "the newest"."""
    spec = protocol.ModelSpec(name=selection.name, signature_name=signature_name)
    if selection.version is not None:
        spec.version.value = selection.version
        spec.version.SetInParent()
    elif selection.version_label is not None:
        spec.version_label = selection.version_label
    return spec


def tag_request(texts: Sequence[str], selection: ModelSelection) -> Any:
    """Returns the PredictRequest that tags `texts` (B of them) with the signature `serving_default`."""
    tensor = protocol.TensorProto(dtype=protocol.DT_STRING, string_val=[text_bytes(text) for text in texts])
    tensor.tensor_shape.dim.add(size=len(texts))
    request = protocol.PredictRequest(model_spec=model_spec(selection, features.SERVING_SIGNATURE))
    request.inputs[features.TEXT].CopyFrom(tensor)
    return request


def tagged_texts(texts: Sequence[str], response: Any) -> list[TaggedText]:
    """Returns the result for each of `texts` from the PredictResponse to `tag_request(texts, ...)`.

    Rows are read by `entity_count`, never by the width E: a server that merges requests into batches answers with the
    width of the whole batch.

    Raises:
        MalformedResponse: an output is missing, or its type, shape or values break the signature's contract.
    """
    rows = len(texts)
    counts = output_values(response, features.ENTITY_COUNT, protocol.DT_INT32, (rows,))
    width = _width(response, rows)
    starts = output_values(response, features.ENTITY_START, protocol.DT_INT32, (rows, width))
    ends = output_values(response, features.ENTITY_END, protocol.DT_INT32, (rows, width))
    types = output_values(response, features.ENTITY_TYPE, protocol.DT_STRING, (rows, width))
    words = output_values(response, features.ENTITY_TEXT, protocol.DT_STRING, (rows, width))
    scores = output_values(response, features.ENTITY_SCORE, protocol.DT_FLOAT, (rows, width))
    version = response.model_spec.version.value if response.model_spec.HasField("version") else None
    results = []
    for row, (text, count) in enumerate(zip(texts, counts, strict=True)):
        if not 0 <= count <= width:
            raise MalformedResponse(f"{features.ENTITY_COUNT}[{row}]: expected 0 to {width}; received {count}")
        entities = []
        for cell in range(row * width, row * width + count):
            start, end = starts[cell], ends[cell]
            if not 0 <= start < end <= len(text):
                raise MalformedResponse(
                    f"row {row}: expected 0 <= start < end <= {len(text)}, the length of the text; "
                    f"received start {start}, end {end}"
                )
            span = text[start:end]
            if words[cell] != text_bytes(span):
                # Offsets in bytes or UTF-16 units would show here, not as wrong entities at the user's.
                raise MalformedResponse(
                    f"row {row}: {features.ENTITY_TEXT} {words[cell].decode('utf-8', 'replace')!r} is not "
                    f"the text between {start} and {end}, {span!r}"
                )
            entities.append(Entity(start, end, types[cell].decode("utf-8"), span, scores[cell]))
        results.append(TaggedText(text, tuple(entities), version))
    return results


def status_request(selection: ModelSelection) -> Any:
    """Returns the GetModelStatusRequest for `selection`."""
    return protocol.GetModelStatusRequest(model_spec=model_spec(selection))


def version_statuses(response: Any) -> tuple[VersionStatus, ...]:
    """Returns the versions of a GetModelStatusResponse, highest first."""
    statuses = (
        VersionStatus(
            item.version,
            protocol.ModelVersionStatus.State.Name(item.state),
            item.status.error_code,
            item.status.error_message.decode("utf-8", "replace"),
        )
        for item in response.model_version_status
    )
    return tuple(sorted(statuses, key=lambda status: -status.version))


def metadata_request(selection: ModelSelection) -> Any:
    """Returns the GetModelMetadataRequest for the signatures of `selection`."""
    return protocol.GetModelMetadataRequest(model_spec=model_spec(selection), metadata_field=["signature_def"])


def model_metadata(response: Any) -> ModelMetadata:
    """Returns the signatures of a GetModelMetadataResponse; TensorFlow's own init signature is left out."""
    # The Any names a message of tensorflow.serving, so `Unpack` would refuse ours, though the wire form is the same.
    signatures = protocol.SignatureDefMap.FromString(response.metadata["signature_def"].value).signature_def
    return ModelMetadata(
        response.model_spec.version.value,
        {
            name: Signature(_specifications(signature.inputs), _specifications(signature.outputs))
            for name, signature in sorted(signatures.items())
            if not name.startswith("__saved_model")
        },
    )


def _specifications(tensors: Any) -> dict[str, TensorSpecification]:
    return {
        name: TensorSpecification(
            # TensorFlow has more types than our enumeration; the number stands for the others.
            protocol.DataType.Name(tensor.dtype) if tensor.dtype in protocol.DataType.values() else str(tensor.dtype),
            None
            if tensor.tensor_shape.unknown_rank
            else tuple(None if dimension.size < 0 else dimension.size for dimension in tensor.tensor_shape.dim),
        )
        for name, tensor in sorted(tensors.items())
    }


# dtype -> (name, typed field, array code of tensor_content)
_FORMS = {
    protocol.DT_INT32: ("int32", "int_val", "i"),
    protocol.DT_FLOAT: ("float32", "float_val", "f"),
    protocol.DT_STRING: ("string", "string_val", None),
}


def output_tensor(response: Any, name: str) -> Any:
    """Returns an output of a PredictResponse; raises MalformedResponse if it is missing."""
    if name not in response.outputs:
        have = ", ".join(sorted(response.outputs)) or "none"
        raise MalformedResponse(f"expected the output {name!r}; received {have}: is this model a tagger?")
    return response.outputs[name]


def _width(response: Any, rows: int) -> int:
    shape = output_tensor(response, features.ENTITY_START).tensor_shape.dim
    if len(shape) != 2 or shape[0].size != rows:
        received = [dimension.size for dimension in shape]
        raise MalformedResponse(f"{features.ENTITY_START}: expected shape [{rows}, E]; received {received}")
    return shape[1].size


def output_values(response: Any, name: str, dtype: int, shape: tuple[int, ...]) -> Sequence[Any]:
    """Returns the values of an output, row by row; raises MalformedResponse unless it has this type and shape."""
    tensor = output_tensor(response, name)
    type_name, typed_field, code = _FORMS[dtype]
    if tensor.dtype != dtype:
        raise MalformedResponse(f"{name}: expected {type_name}; received the data type number {tensor.dtype}")
    received = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    if received != shape:
        raise MalformedResponse(f"{name}: expected shape {list(shape)}; received {list(received)}")
    size = 1
    for length in shape:
        size *= length
    values: Sequence[Any]
    if tensor.tensor_content and code is not None:
        numbers = array(code)
        if len(tensor.tensor_content) != size * numbers.itemsize:
            received_bytes = len(tensor.tensor_content)
            raise MalformedResponse(f"{name}: expected {size * numbers.itemsize} bytes; received {received_bytes}")
        numbers.frombytes(tensor.tensor_content)
        if sys.byteorder == "big":
            numbers.byteswap()
        values = numbers
    else:
        values = getattr(tensor, typed_field)
    if 0 < len(values) < size:
        # TensorFlow may leave out a run of equal values at the end.
        values = [*values, *[values[-1]] * (size - len(values))]
    if len(values) != size:
        raise MalformedResponse(f"{name}: expected {size} values for shape {list(shape)}; received {len(values)}")
    return values
