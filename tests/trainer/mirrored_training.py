"""Trains on two replicas, breaks off after the first epoch and trains again, in a process of its own.

python mirrored_training.py ARGUMENTS.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import tensorflow as tf

from components.trainer import run
from components.trainer.training_state import Progress, TrainingState


class BrokenOffError(RuntimeError):
    """Stands for a crash."""


def main() -> None:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    run.training_strategy = lambda distribution: strategy
    arguments = SimpleNamespace(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    save = TrainingState.save

    def save_and_break_off(self: TrainingState, progress: Progress) -> None:
        save(self, progress)
        raise BrokenOffError

    TrainingState.save = save_and_break_off
    try:
        run.run_fn(arguments)
    except BrokenOffError:
        TrainingState.save = save
        run.run_fn(arguments)


if __name__ == "__main__":
    main()
