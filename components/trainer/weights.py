"""Weights of a tagger from named tensors, with every tensor and every weight accounted for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import numpy
import tensorflow as tf

from components.trainer.checkpoint_error import CheckpointError

# Others are quantized: their numbers mean nothing without a scale that stands elsewhere.
WEIGHT_TYPES = ("float16", "bfloat16", "float32", "float64")

# Tensors of a fault that are named: those of a wrong configuration are hundreds.
_NAMED = 5


@dataclasses.dataclass(frozen=True)
class Destination:
    """Where a tensor of a checkpoint goes.

    Args:
        variable: name of our weight.
        transpose: the checkpoint stores the transpose of the weight.
        part: the tensor fills columns `part * width` to `(part + 1) * width` of the weight; None fills all of it.
        part_count: number of parts of that weight.
    """

    variable: str
    transpose: bool = False
    part: int | None = None
    part_count: int = 1

    def checkpoint_shape(self, variable_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape that the checkpoint's tensor must have."""
        shape = (*variable_shape[:-1], variable_shape[-1] // self.part_count)
        return shape[::-1] if self.transpose else shape


def encoder_variables(variables: Mapping[str, tf.Variable]) -> dict[str, tf.Variable]:
    """Returns the encoder's part of `FusionTagger.named_variables()`."""
    return {name: variable for name, variable in variables.items() if name.startswith("bert/")}


def check_weight_types(types: Mapping[str, str], destinations: Mapping[str, Destination], source: str) -> None:
    """Refuses a checkpoint whose weights are stored in another type than `WEIGHT_TYPES`.

    Args:
        types: the type of each tensor that the checkpoint holds, by the name of the tensor.
        destinations: by name in the checkpoint, where each expected tensor goes.
        source: the file, for messages.

    Raises:
        CheckpointError: names a tensor and its type.
    """
    for name in sorted(destinations.keys() & types.keys()):
        if types[name] not in WEIGHT_TYPES:
            raise CheckpointError(
                f"{source}: the tensor {name} has the type {types[name]}; expected {', '.join(WEIGHT_TYPES)}"
            )


def assign_weights(
    variables: Mapping[str, tf.Variable],
    destinations: Mapping[str, Destination],
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], numpy.ndarray],
    source: str,
) -> None:
    """Assigns the tensors of a checkpoint to `variables`.

    Names and shapes are all checked before the first weight changes.

    Args:
        variables: the weights to fill, by name; each must be filled whole.
        destinations: by name in the checkpoint, where each expected tensor goes.
        shapes: shape of each tensor that the checkpoint holds, without those that may be dropped.
        read: returns a tensor of the checkpoint.
        source: the file, for messages.

    Raises:
        CheckpointError: counts all missing, left-over and wrongly shaped tensors and names the first of each, or names
            one that is not finite.
    """
    _check_names_and_shapes(variables, destinations, shapes, source)
    parts: dict[str, dict[int, numpy.ndarray]] = {}
    for name, destination in destinations.items():
        values = read(name).astype(numpy.float32)
        if not numpy.isfinite(values).all():
            raise CheckpointError(f"{source}: the tensor {name} holds values that are not finite; the file is damaged")
        values = values.T if destination.transpose else values
        received = parts.setdefault(destination.variable, {})
        received[destination.part or 0] = values
        if len(received) == destination.part_count:
            ordered = [received[index] for index in range(destination.part_count)]
            variable = variables[destination.variable]
            variable.assign(tf.cast(numpy.concatenate(ordered, axis=-1), variable.dtype))
            del parts[destination.variable]


def _check_names_and_shapes(
    variables: Mapping[str, tf.Variable],
    destinations: Mapping[str, Destination],
    shapes: Mapping[str, tuple[int, ...]],
    source: str,
) -> None:
    filled = {destination.variable for destination in destinations.values()}
    if filled != variables.keys():
        raise ValueError(f"the table of names and the model differ in {sorted(filled ^ variables.keys())}")
    wrong_shapes = []
    for name in sorted(destinations.keys() & shapes.keys()):
        expected = destinations[name].checkpoint_shape(tuple(variables[destinations[name].variable].shape))
        if tuple(shapes[name]) != expected:
            wrong_shapes.append(f"{name} is {list(shapes[name])} and not {list(expected)}")
    faults = [
        _fault("missing", destinations.keys() - shapes.keys()),
        _fault("left over", shapes.keys() - destinations.keys()),
        _fault("of the wrong shape", wrong_shapes),
    ]
    found = "; ".join(fault for fault in faults if fault)
    if found:
        raise CheckpointError(f"{source}: the tensors do not fit the encoder that its configuration describes: {found}")


def _fault(kind: str, names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return f"{len(listed)} {kind}: {', '.join(listed[:_NAMED])}{more}" if listed else ""
