from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.fusion import DynamicFusion, FusionName, LastLayer, StaticFusion, make_fusion

LAYERS = [tf.constant([[1.0, 0.0], [0.0, 1.0]]), tf.constant([[3.0, 5.0], [7.0, 9.0]])]  # 2 layers of [N=2, H=2]


def ones(shape: tuple[int, ...]) -> tf.Tensor:
    return tf.ones(shape)


def test_dynamic_weighs_the_layers_of_each_token_by_itself() -> None:
    fusion = DynamicFusion(2, 2, ones)
    fusion.layer_logits[0].kernel.assign([[2.0], [0.0]])
    fusion.layer_logits[0].bias.assign([0.5])
    fusion.layer_logits[1].kernel.assign([[0.0], [0.5]])
    # Token 0: scores 2.5 and 2.5; token 1: scores 0.5 and 4.5.
    share = 1 / (1 + np.exp(-4.0))
    fused = fusion(LAYERS)
    np.testing.assert_allclose(fused.layer_weights, [[0.5, 0.5], [1 - share, share]], rtol=1e-6)
    np.testing.assert_allclose(fused.hidden, [[2.0, 2.5], [7 * share, 1 - share + 9 * share]], rtol=1e-6)


def test_static_gives_all_tokens_the_same_weights() -> None:
    fusion = StaticFusion(2)
    np.testing.assert_allclose(fusion(LAYERS).layer_weights, [[0.5, 0.5], [0.5, 0.5]])
    fusion.layer_scores.assign([0.0, np.log(3.0)])
    fused = fusion(LAYERS)
    np.testing.assert_allclose(fused.layer_weights, [[0.25, 0.75], [0.25, 0.75]], rtol=1e-6)
    np.testing.assert_allclose(fused.hidden, [[2.5, 3.75], [5.25, 7.0]], rtol=1e-6)


def test_last_takes_the_last_layer() -> None:
    fused = LastLayer()(LAYERS)
    np.testing.assert_array_equal(fused.hidden, LAYERS[-1])
    np.testing.assert_array_equal(fused.layer_weights, [[0.0, 1.0], [0.0, 1.0]])


@pytest.mark.parametrize(("name", "weights"), [("dynamic", 4), ("static", 1), ("last", 0)])
def test_weights_by_fusion(name: FusionName, weights: int) -> None:
    assert len(make_fusion(name, 2, 2, ones).trainable_variables) == weights


def test_unknown_fusion_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of dynamic, static, last; received 'mean'"):
        make_fusion("mean", 2, 2, ones)  # type: ignore[arg-type]


def test_weights_stay_finite_for_large_scores() -> None:
    fusion = DynamicFusion(2, 2, ones)
    fused = fusion([layer * 1e6 for layer in LAYERS])
    np.testing.assert_array_equal(fused.layer_weights, [[0.0, 1.0], [0.0, 1.0]])


def test_no_tensor_holds_all_layers_at_once() -> None:
    """The graph of a fusion of 7 layers has no tensor with an axis of 7 beside a hidden axis."""
    fusion = DynamicFusion(7, 5, ones)
    function = tf.function(lambda hidden: fusion([hidden] * 7), input_signature=[tf.TensorSpec([None, 5])])
    for operation in function.get_concrete_function().graph.get_operations():
        for output in operation.outputs:
            dimensions = output.shape.as_list() if output.shape.rank is not None else []
            assert not (7 in dimensions and 5 in dimensions), operation.name
