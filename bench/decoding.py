"""What decoding costs beside the encoder: the best tag sequence, and the probabilities of its entities.

    python -m bench.decoding

Random weights in the shape of MiniLM (6 layers of 384, vocabulary of 30,522), three graphs over the same tokens: the
encoder alone, with entities, and with entities and scores. They take turns; each number is the median of the turns.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from components.trainer.encoder_config import EncoderConfig
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger

MINILM = EncoderConfig(vocab_size=30522, hidden_size=384, num_layers=6, num_heads=12, intermediate_size=1536)
TAG_COUNTS = (7, 13, 37)
# name -> tokens of each text
WORKLOADS = {
    "1 sentence of 30 tokens": [30],
    "1 text of 500 tokens": [500],
    "32 sentences of 30 tokens": [30] * 32,
    "1 text of 20,000 tokens": [20_000],
}


def main() -> int:
    """Prints one line for each number of tags and each workload."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tags", type=int, nargs="*", default=TAG_COUNTS, help="numbers of tags")
    parser.add_argument("--turns", type=int, default=9, help="turns of each graph; 3 where it takes seconds")
    arguments = parser.parse_args()
    print("| tags | workload | encoder, ms | entities, ms | scores, ms | scores / encoder |", flush=True)
    print("|---|---|---|---|---|---|", flush=True)
    for tag_count in arguments.tags:
        graphs = make_graphs(tag_count)
        for name, lengths in WORKLOADS.items():
            generator = np.random.default_rng(1)
            ids = tf.constant(generator.integers(5, MINILM.vocab_size, sum(lengths)), tf.int32)
            splits = tf.constant(np.cumsum([0, *lengths]), tf.int64)
            turns = arguments.turns if sum(lengths) < 5000 else 3
            encoder, entities, scores = measure([functools.partial(graph, ids, splits) for graph in graphs], turns)
            print(
                f"| {tag_count} | {name} | {1e3 * encoder:.2f} | {1e3 * (entities - encoder):.2f} | "
                f"{1e3 * (scores - entities):.2f} | {(scores - entities) / encoder:.3f} |",
                flush=True,
            )
    return 0


def make_graphs(tag_count: int) -> list[Callable[[tf.Tensor, tf.Tensor], object]]:
    """Returns the three graphs; what a graph does not return is not computed."""
    generator = np.random.default_rng(1)
    tagger = TextTagger(
        FusionTagger(MINILM, tag_count, seed=1),
        cls_id=2,
        sep_id=3,
        window=512,
        overlap=128,
        continuation=None,
        transitions=generator.normal(size=(tag_count + 1, tag_count + 1)).astype(np.float32),
    )
    # Logits of a random head are all alike: with this one half of the tokens are in entities.
    weights = tagger.tagger.classifier.output_weights
    weights.assign(generator.normal(size=weights.shape))
    signature = [tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int64)]

    def graph(outputs: Callable[[tf.RaggedTensor], object]) -> Callable[[tf.Tensor, tf.Tensor], object]:
        @tf.function(input_signature=signature, autograph=False)
        def run(token_ids: tf.Tensor, splits: tf.Tensor) -> object:
            return outputs(tf.RaggedTensor.from_row_splits(token_ids, splits, validate=False))

        return run

    def find(ids: tf.RaggedTensor) -> list[tf.Tensor]:
        places = ids.with_flat_values(tf.range(tf.size(ids.flat_values)))
        return [part.flat_values for part in tagger.find_entities(ids, places, places + 1)]

    return [graph(lambda ids: tagger.tag_tokens(ids).logits), graph(lambda ids: find(ids)[:3]), graph(find)]


def measure(calls: Sequence[Callable[[], object]], turns: int) -> list[float]:
    """Returns the median seconds of each call."""
    for call in calls:
        call()
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(turns):
        for call, taken in zip(calls, seconds, strict=True):
            repeats, start = 0, time.perf_counter()
            while repeats == 0 or time.perf_counter() - start < 0.2:
                call()
                repeats += 1
            taken.append((time.perf_counter() - start) / repeats)
    return [statistics.median(taken) for taken in seconds]


if __name__ == "__main__":
    raise SystemExit(main())
