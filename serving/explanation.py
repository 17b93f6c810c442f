"""What a tagger says of every token of a text: the request to the signature `explain`, and its answer as values.

Like `serving.client`, this imports neither TensorFlow nor NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components import features
from serving.errors import MalformedResponse
from serving.messages import ModelSelection, model_spec, output_tensor, output_values, text_bytes
from serving.protocol import fusion_ner_protocol_pb2 as protocol


@dataclass(frozen=True)
class ExplainedToken:
    """One token.

    Args:
        start: code points of the text.
        end: exclusive.
        text: the text between them.
        tag_probabilities: of each tag, before decoding; they sum to 1.
        layer_weights: the share of each encoder layer in the token's representation, lowest first; they sum to 1.
    """

    start: int
    end: int
    text: str
    tag_probabilities: tuple[float, ...]
    layer_weights: tuple[float, ...]


@dataclass(frozen=True)
class Explanation:
    """One text.

    Args:
        text: the text.
        tags: the model's tags, in the order of `tag_probabilities`.
        layer_count: number of encoder layers.
        tokens: its tokens, in order.
    """

    text: str
    tags: tuple[str, ...]
    layer_count: int
    tokens: tuple[ExplainedToken, ...]

    def best_tag(self, token: ExplainedToken) -> tuple[str, float]:
        """Returns the most probable tag of a token by itself, and its probability."""
        probability = max(token.tag_probabilities)
        return self.tags[token.tag_probabilities.index(probability)], probability


def explain_request(text: str, selection: ModelSelection) -> Any:
    """Returns the PredictRequest that explains one text."""
    tensor = protocol.TensorProto(dtype=protocol.DT_STRING, string_val=[text_bytes(text)])
    tensor.tensor_shape.dim.add(size=1)
    request = protocol.PredictRequest(model_spec=model_spec(selection, features.EXPLAIN_SIGNATURE))
    request.inputs[features.TEXT].CopyFrom(tensor)
    return request


def explanation(text: str, response: Any) -> Explanation:
    """Returns the explanation in the PredictResponse to `explain_request(text, ...)`.

    Raises:
        MalformedResponse: an output is missing, or its type, shape or values break the signature's contract.
    """
    width = _size(response, features.TOKEN_START, rank=2)
    tag_count = _size(response, features.TAG_NAME, rank=2)
    layer_count = _size(response, features.LAYER_WEIGHTS, rank=3)
    (count,) = output_values(response, features.TOKEN_COUNT, protocol.DT_INT32, (1,))
    starts = output_values(response, features.TOKEN_START, protocol.DT_INT32, (1, width))
    ends = output_values(response, features.TOKEN_END, protocol.DT_INT32, (1, width))
    pieces = output_values(response, features.TOKEN_TEXT, protocol.DT_STRING, (1, width))
    names = output_values(response, features.TAG_NAME, protocol.DT_STRING, (1, tag_count))
    probabilities = output_values(response, features.TAG_PROBABILITY, protocol.DT_FLOAT, (1, width, tag_count))
    weights = output_values(response, features.LAYER_WEIGHTS, protocol.DT_FLOAT, (1, width, layer_count))
    if not 0 <= count <= width:
        raise MalformedResponse(f"{features.TOKEN_COUNT}: expected 0 to {width}; received {count}")
    tokens = []
    for place in range(count):
        start, end = starts[place], ends[place]
        if not 0 <= start < end <= len(text) or pieces[place] != text_bytes(text[start:end]):
            raise MalformedResponse(
                f"token {place}: {pieces[place].decode('utf-8', 'replace')!r} does not stand between {start} and {end}"
            )
        tokens.append(
            ExplainedToken(
                start,
                end,
                text[start:end],
                tuple(_row(probabilities, place, tag_count)),
                tuple(_row(weights, place, layer_count)),
            )
        )
    return Explanation(text, tuple(name.decode("utf-8") for name in names), layer_count, tuple(tokens))


def _row(values: Sequence[float], place: int, width: int) -> Sequence[float]:
    return values[place * width : (place + 1) * width]


def _size(response: Any, name: str, *, rank: int) -> int:
    """Returns the last dimension of an output."""
    shape = [dimension.size for dimension in output_tensor(response, name).tensor_shape.dim]
    if len(shape) != rank:
        raise MalformedResponse(f"{name}: expected {rank} dimensions; received the shape {shape}")
    return shape[-1]
