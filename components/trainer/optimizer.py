"""AdamW with linear warm-up and decay, on plain variables."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import tensorflow as tf

from components.trainer.loss_scale import LossScale

BETA_1 = 0.9
BETA_2 = 0.999
EPSILON = 1e-6  # google-research/bert's


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The learning rate relative to its peak: from 0 linearly to 1, then linearly to 0.

    Args:
        total_steps: steps of the training.
        warmup_steps: steps until the peak.
    """

    total_steps: int
    warmup_steps: int

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the factor of the peak at `step` (int64 [], from 0): float32 [].

        Example: 10 steps, 2 of them warm-up: 1/2, 1, 1, 7/8, 6/8, .., 1/8.
        """
        done = tf.cast(step, tf.float32)
        rising = (done + 1.0) / max(self.warmup_steps, 1)
        falling = (self.total_steps - done) / max(self.total_steps - self.warmup_steps, 1)
        return tf.clip_by_value(tf.minimum(rising, falling), 0.0, 1.0)


class AdamW(tf.Module):
    """Adam with bias correction and decoupled weight decay (Loshchilov and Hutter, https://arxiv.org/abs/1711.05101).

    For a gradient g clipped together with all others to the global norm, and rate r = peak x schedule(step):
    m = 0.9 m + 0.1 g, v = 0.999 v + 0.001 g^2, w = w - r (decay w + m_hat / (sqrt(v_hat) + 1e-6)).

    With `ema_decay` d it keeps a moving average of each variable, a = a - (1 - d_t) (a - w) after step t (from 0), with
    d_t = min(d, (1 + t) / (10 + t)), so that the initial weights are soon forgotten.

    Every variable is updated as a whole by one fused kernel, embedding tables too: 40 ms for nine million weights on
    two cores, a tenth of a step of 2048 tokens. Unlike updates of the batch's rows, that is the Adam of the formula.
    Raw operations on the handles, because each replica of a mirrored training updates its own copies, all alike.

    Args:
        variables: what is trained, float32.
        peaks: peak learning rate of each variable.
        decayed: whether weight decay applies, of each variable.
        schedule: the rate over time.
        weight_decay: the decay, relative to the learning rate.
        clip_norm: greatest global norm of the gradients.
        ema_decay: decay of the average of the weights; 0 keeps none.
        loss_scale: by whose `factor` the loss is multiplied before its gradient is taken; None for 1.
    """

    def __init__(
        self,
        variables: Sequence[tf.Variable],
        *,
        peaks: Sequence[float],
        decayed: Sequence[bool],
        schedule: Schedule,
        weight_decay: float,
        clip_norm: float,
        ema_decay: float = 0.0,
        loss_scale: LossScale | None = None,
    ) -> None:
        super().__init__()
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        # Slots are named by position: tf.train.Checkpoint finds them again in the list.
        self.means = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in variables]
        self.squares = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in variables]
        self.averages = [tf.Variable(variable, trainable=False) for variable in variables] if ema_decay else []
        self.loss_scale = loss_scale
        self._variables = list(variables)
        self._peaks = list(peaks)
        self._decayed = list(decayed)
        self._schedule = schedule
        self._weight_decay = weight_decay
        self._clip_norm = clip_norm
        self._ema_decay = ema_decay

    @property
    def trained(self) -> list[tf.Variable]:
        """What is trained, in the order of the gradients."""
        return list(self._variables)

    @property
    def steps_done(self) -> int:
        """Number of steps that were taken."""
        return int(self.step.read_value())

    def rate(self) -> tf.Tensor:
        """The factor of the peak learning rates at the next step: float32 []."""
        return self._schedule(self.step)

    def apply(self, gradients: Sequence[tf.Tensor | tf.IndexedSlices], weight: tf.Tensor | float = 1.0) -> tf.Tensor:
        """Updates all variables once and returns the norm of the unclipped gradients, float32 [].

        If the norm is not finite no variable is updated, so that the caller can stop with healthy weights or go on with
        the smaller `loss_scale`.

        Args:
            gradients: of a sum of losses.
            weight: float32 [], by which the sum is divided to give the loss.
        """
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        if self.loss_scale is not None:
            weight *= self.loss_scale.factor()
        norm = tf.linalg.global_norm(dense) / weight
        factor = self._clip_norm / tf.maximum(norm, self._clip_norm) / weight

        def update() -> tf.Tensor:
            exponent = tf.cast(self.step + 1, tf.float32)
            rate = self.rate()
            for variable, gradient, mean, square, peak, decayed in zip(
                self._variables, dense, self.means, self.squares, self._peaks, self._decayed, strict=True
            ):
                if decayed and self._weight_decay:
                    decay = rate * peak * self._weight_decay
                    tf.raw_ops.AssignSubVariableOp(resource=variable.handle, value=decay * variable)
                tf.raw_ops.ResourceApplyAdam(
                    var=variable.handle,
                    m=mean.handle,
                    v=square.handle,
                    beta1_power=BETA_1**exponent,
                    beta2_power=BETA_2**exponent,
                    lr=rate * peak,
                    beta1=BETA_1,
                    beta2=BETA_2,
                    # The kernel adds it to the root of the uncorrected square.
                    epsilon=EPSILON * tf.sqrt(1.0 - BETA_2**exponent),
                    grad=gradient * factor,
                )
            # The step does not count from 1: with exponent = step + 1 this is (1 + step) / (10 + step).
            kept = tf.minimum(self._ema_decay, exponent / (exponent + 9.0))
            for average, variable in zip(self.averages, self._variables, strict=bool(self.averages)):
                change = (1.0 - kept) * (average - variable)
                tf.raw_ops.AssignSubVariableOp(resource=average.handle, value=change)
            tf.raw_ops.AssignAddVariableOp(resource=self.step.handle, value=tf.constant(1, tf.int64))
            return norm

        tf.cond(tf.math.is_finite(norm), update, lambda: norm)
        if self.loss_scale is not None:
            self.loss_scale.update(tf.math.is_finite(norm))
        return norm

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the variables have their averaged values; without `ema_decay` nothing changes."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for average, variable in zip(self.averages, self._variables, strict=bool(self.averages)):
            values = average.read_value()
            average.assign(variable.read_value())
            variable.assign(values)
