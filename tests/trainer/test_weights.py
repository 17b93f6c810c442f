from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.checkpoint_error import CheckpointError
from components.trainer.weights import Destination, assign_weights, check_weight_types

DESTINATIONS = {
    "table": Destination("table"),
    "left": Destination("joined", transpose=True, part=0, part_count=2),
    "right": Destination("joined", transpose=True, part=1, part_count=2),
}
TENSORS = {
    "table": np.arange(6.0).reshape(2, 3),
    "left": np.array([[1.0, 2.0, 3.0]]),
    "right": np.array([[4.0, 5.0, 6.0]], np.float16),
}


def variables() -> dict[str, tf.Variable]:
    return {"table": tf.Variable(tf.zeros([2, 3])), "joined": tf.Variable(tf.zeros([3, 2]))}


def assign(weights: dict[str, tf.Variable], tensors: dict[str, np.ndarray]) -> None:
    shapes = {name: values.shape for name, values in tensors.items()}
    assign_weights(weights, DESTINATIONS, shapes, tensors.__getitem__, "model.ckpt")


def test_parts_are_transposed_and_joined() -> None:
    weights = variables()
    assign(weights, TENSORS)
    np.testing.assert_array_equal(weights["table"], TENSORS["table"])
    np.testing.assert_array_equal(weights["joined"], [[1, 4], [2, 5], [3, 6]])


def test_every_fault_is_listed_before_any_weight_changes() -> None:
    weights = variables()
    tensors = {"table": np.ones([3, 2]), "left": TENSORS["left"], "extra/b": np.ones(1), "extra/a": np.ones(1)}
    with pytest.raises(CheckpointError) as raised:
        assign(weights, tensors)
    assert str(raised.value) == (
        "model.ckpt: the tensors do not fit the encoder that its configuration describes: 1 missing: right; "
        "2 left over: extra/a, extra/b; 1 of the wrong shape: table is [3, 2] and not [2, 3]"
    )
    assert not np.any(weights["joined"])


def test_of_many_faults_a_few_are_named() -> None:
    names = [f"extra/{letter}" for letter in "abcdefg"]
    with pytest.raises(CheckpointError, match=r"encoder .*: 7 left over: extra/a, extra/b, .*, extra/e and 2 more$"):
        assign(variables(), TENSORS | {name: np.ones(1) for name in names})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(CheckpointError, match=r"model\.ckpt: the tensor table holds values that are not finite"):
        assign(variables(), TENSORS | {"table": np.full([2, 3], value)})


def test_a_weight_without_source_is_a_mistake_of_the_table() -> None:
    with pytest.raises(ValueError, match=r"differ in \['forgotten'\]"):
        assign(variables() | {"forgotten": tf.Variable(0.0)}, TENSORS)


@pytest.mark.parametrize("type_name", ["float16", "bfloat16", "float32", "float64"])
def test_types_of_weights(type_name: str) -> None:
    check_weight_types({"table": type_name, "step": "int64"}, DESTINATIONS, "model.ckpt")


@pytest.mark.parametrize("type_name", ["int8", "uint8", "float8_e4m3fn", "F8_E4M3", "bool", "int64"])
def test_weights_of_other_types_are_refused(type_name: str) -> None:
    message = rf"^model\.ckpt: the tensor left has the type {type_name}; expected float16, bfloat16, float32, float64$"
    with pytest.raises(CheckpointError, match=message):
        check_weight_types({"table": "float32", "left": type_name}, DESTINATIONS, "model.ckpt")
