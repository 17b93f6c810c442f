"""Takes steps on two replicas, in a process of its own: logical devices can only be set before TensorFlow starts.

python mirrored_step.py RESULT.npz ACCUMULATION_STEPS
"""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf

from components.trainer.encoder_config import EncoderConfig
from components.trainer.optimizer import AdamW, Schedule
from components.trainer.tagger import FusionTagger
from components.trainer.training import train_step
from components.trainer.training_data import TrainingBatch

# Of two layers, as the weight of a single one has no gradient but rounding, which Adam blows up to whole steps.
CONFIG = EncoderConfig(
    vocab_size=20, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=24, max_positions=16,
    hidden_dropout=0.0, attention_dropout=0.0, initializer_range=0.3,
)  # fmt: skip
# Lengths of the rows of each batch. The means of their losses differ, as they hold different numbers of tokens.
BATCHES = ([5, 3], [9], [2, 2, 8, 3], [12, 4], [7])


def make_batches() -> list[TrainingBatch]:
    """Returns the batches, random but always the same; the first token of each row carries no tag."""
    random = np.random.default_rng(2)
    batches = []
    for lengths in BATCHES:
        tag_ids = random.integers(0, 5, sum(lengths)).astype(np.int32)
        tag_ids[np.cumsum([0, *lengths[:-1]])] = -1
        token_ids = random.integers(0, CONFIG.vocab_size, sum(lengths)).astype(np.int32)
        batches.append(TrainingBatch(token_ids, np.array(lengths, np.int32), tag_ids))
    return batches


def take_steps(
    groups: list[list[TrainingBatch]],
    *,
    accumulation_steps: int = 1,
    strategy: tf.distribute.Strategy | None = None,
    config: EncoderConfig = CONFIG,
) -> dict[str, np.ndarray]:
    """Takes one step for each group and returns the weights by name, `losses`, `weights`, `norms`."""
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        tagger = FusionTagger(config, tag_count=5, seed=3)
        optimizer = AdamW(
            tagger.trainable_variables,
            peaks=[1e-2] * len(tagger.trainable_variables),
            decayed=[variable.shape.rank > 1 for variable in tagger.trainable_variables],
            schedule=Schedule(total_steps=len(groups) + 1, warmup_steps=1),
            weight_decay=0.01,
            clip_norm=1.0,
            ema_decay=0.9,
        )
        step = train_step(tagger, optimizer, seed=1, accumulation_steps=accumulation_steps, strategy=strategy)
    losses, weights, norms = zip(*map(step, groups), strict=True)
    result = {name: variable.numpy() for name, variable in tagger.named_variables().items()}
    names = list(result)
    result |= {f"average/{name}": value.numpy() for name, value in zip(names, optimizer.averages, strict=True)}
    return result | {"losses": np.array(losses), "weights": np.array(weights), "norms": np.array(norms)}


if __name__ == "__main__":
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    accumulation_steps = int(sys.argv[2])
    batches = make_batches()
    group = 2 * accumulation_steps
    np.savez(
        sys.argv[1],
        **take_steps(
            [batches[first : first + group] for first in range(0, len(batches), group)],
            accumulation_steps=accumulation_steps,
            strategy=tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
        ),
    )
