"""Dynamic scaling of the loss for training in float16."""

from __future__ import annotations

import tensorflow as tf

INITIAL = 2.0**15
# Below it the gradient is no number for another reason than the scale.
SMALLEST = 1.0
GROWTH_STEPS = 2000


class LossScale(tf.Module):
    """A factor of the loss that keeps gradients inside float16 (Micikevicius et al., https://arxiv.org/abs/1710.03740).

    What is below 6e-8 is 0 in float16, and what is above 65504 infinite. A step whose gradient is not finite is skipped
    and halves the scale; `GROWTH_STEPS` others in a row double it, as in Keras' LossScaleOptimizer.

    Args:
        tokens: a usual number of tokens of a batch: the losses are summed over them, and the scale is that of the mean.
    """

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.value = tf.Variable(INITIAL, trainable=False)
        self.finite_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._tokens = tokens

    def factor(self) -> tf.Tensor:
        """The factor of a sum of losses: float32 []."""
        return self.value / self._tokens

    def update(self, finite: tf.Tensor) -> None:
        """Adapts the scale to whether the gradient of this step was finite: bool []."""
        steps = tf.where(finite, self.finite_steps + 1, 0)
        grows = steps >= GROWTH_STEPS
        change = tf.where(finite, tf.where(grows, 2.0, 1.0), 0.5)
        # Raw operations, as in AdamW: each replica has its own copy.
        tf.raw_ops.AssignVariableOp(resource=self.value.handle, value=self.value * change)
        tf.raw_ops.AssignVariableOp(
            resource=self.finite_steps.handle, value=tf.where(grows, tf.zeros_like(steps), steps)
        )
