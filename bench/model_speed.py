"""Speed of the bare tagger against its peers and against the machine, measured in turns within one run.

    python -m bench.model_speed --parts tag train seed --workloads heavy-tailed tweets uniform --precisions float32

Ours is `FusionTagger` at the size of BERT-base with random weights and dynamic fusion, on packed rows. The peer is
transformers' BertForTokenClassification in PyTorch, of the same size and precision, each batch padded to its longest
sentence, with the number of threads that suits it best; it lives in a process of its own (`bench/peer_model.py` in
.venv-peer, which `make bench-model` makes). The seed's graph (`bench/seed_model.py`) pads to 512. All of them take the
same sentences, batch by batch in turns, so that a busy machine slows them all.

The ceiling is the largest speed of a matrix product of the model's own shapes, in turns with the batches; the share of
it counts the operations that the sentences need (`bench.workloads.forward_flops`), so padding and everything that is
no matrix product lower it. Processes and cores: run it on a quiet machine, or read ratios only.

With `--device gpu` ours and PyTorch run on the first GPU. Float32 products of both take TensorFloat-32 there, as those
of TensorFlow do by default, every batch runs once before it is timed, since the first run of a shape loads kernels, and
the ceiling is not measured.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# As the command line and the server do, before TensorFlow is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
import tensorflow as tf

from bench.measuring import machine
from bench.workloads import BERT_BASE, WORKLOADS, forward_flops, in_batches, padding_factor
from components.trainer.encoder_config import EncoderConfig
from components.trainer.loss import NO_TAG
from components.trainer.optimizer import AdamW, Schedule
from components.trainer.tagger import FusionTagger
from components.trainer.training import train_step
from components.trainer.training_data import TrainingBatch

ROOT = Path(__file__).resolve().parent.parent
PEER_PYTHON = ROOT / ".venv-peer" / "bin" / "python"
TAG_COUNT = 11
BATCH = 32
# The peer holds 7.5 GB to train on 16 sentences padded to 222 tokens; with 32 it was killed for memory on 23 GB.
TRAINING_BATCH = 16
SEED_ROWS, SEED_LENGTH = 8, 512
# Rows of the products: about the tokens of a batch of sentences, and more.
CEILING_ROWS = (1632, 2048)
# Rows x inner x columns of the products of a layer: query, key and value; output of attention; feed-forward.
CEILING_SHAPES = [
    (rows, inner, columns)
    for rows in CEILING_ROWS
    for inner, columns in ((768, 2304), (768, 768), (768, 3072), (3072, 768))
]
TARGETS = {
    ("heavy-tailed", "float32"): "at least 4",
    ("heavy-tailed", "bfloat16"): "at least 3",
    ("uniform", "float32"): "at least 1",
    ("uniform", "bfloat16"): "at least 1",
}

TimeBatch = Callable[[np.ndarray], float]


class Turns(NamedTuple):
    """Seconds of each batch, by contestant, and the speeds of the ceiling measured between them, in FLOP/s."""

    seconds: dict[str, list[float]]
    ceilings: dict[str, list[float]]


def main() -> None:
    """Prints tables in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=("tag", "train", "seed"), default=["tag", "train", "seed"])
    parser.add_argument("--workloads", nargs="+", choices=tuple(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--sentences", type=int, default=256, help="of each workload in float32 (default: 256)")
    parser.add_argument("--bfloat16-sentences", type=int, default=32, help="in bfloat16 (default: 32)")
    parser.add_argument("--training-sentences", type=int, default=64, help="of the training steps (default: 64)")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"sentences of a batch (default: {BATCH})")
    parser.add_argument("--no-peer", action="store_true", help="ours and the ceiling only")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="of ours and the peer (default: cpu)")
    parser.add_argument("--peer-python", default=str(PEER_PYTHON), help="interpreter that has PyTorch and transformers")
    parser.add_argument("--threads", type=int, help="threads of the peer; without it, the best of 1 and all cores")
    arguments = parser.parse_args()
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # The peer and the seed's graph need memory of it, too.
        tf.config.experimental.set_memory_growth(gpu, True)
    if bool(gpus) != (arguments.device == "gpu"):
        parser.error(f"--device {arguments.device}: TensorFlow sees {gpus or 'no GPU'}")
    with contextlib.ExitStack() as stack:
        peer = None
        if not arguments.no_peer:
            peer = stack.enter_context(_process([arguments.peer_python, str(ROOT / "bench" / "peer_model.py")]))
            versions = peer(
                {
                    "do": "start",
                    "config": _hugging_face_config(),
                    "tag_count": TAG_COUNT,
                    "device": "cuda" if arguments.device == "gpu" else "cpu",
                }
            )
            print(f"PyTorch {versions['torch']}, transformers {versions['transformers']}", end="; ")
            print(f"attention of the peer: {versions['attention']}", end="; ")
            if arguments.device == "cpu":
                threads = arguments.threads or _best_threads(peer)
                peer({"do": "threads", "count": threads})
                print(f"the peer runs with {threads} threads", end="; ")
        print(f"TensorFlow {tf.__version__}; {machine()}\n", flush=True)
        if "tag" in arguments.parts:
            _print_workloads(arguments)
            tagging(arguments, peer)
        if "train" in arguments.parts:
            training(arguments, peer)
        if "seed" in arguments.parts:
            seed(arguments, stack)
    print(f"\nat the end: {machine()}")


def tagging(arguments: argparse.Namespace, peer: Callable[[dict], dict] | None) -> None:
    """Measures forward passes and prints tokens a second, ratios and shares of the ceiling."""
    print(
        "| forward pass | precision | ours, tokens/s | peer | ours / peer | target | ours, share of ceiling | peer's |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    notes = []
    for precision in arguments.precisions:
        ours = tag_batch(precision)
        count = arguments.sentences if precision == "float32" else arguments.bfloat16_sentences
        for workload in arguments.workloads:
            contestants = {"ours": ours}
            if peer is not None:
                contestants["peer"] = lambda lengths, precision=precision: peer(
                    {"do": "tag", "lengths": lengths.tolist(), "precision": precision}
                )["seconds"]
            batches = in_batches(WORKLOADS[workload].lengths(count), arguments.batch)
            ceilings = _ceilings(precision, peer) if arguments.device == "cpu" else {}
            turns = take_turns(contestants, batches, ceilings, warm_up=_warm_up(arguments, batches))
            tokens = sum(int(batch.sum()) for batch in batches)
            flops = sum(forward_flops(BERT_BASE, batch, tag_count=TAG_COUNT) for batch in batches)
            ceiling = {name: max(speeds) for name, speeds in turns.ceilings.items()}
            best = max(ceiling.values(), default=None)
            total = {name: sum(seconds) for name, seconds in turns.seconds.items()}
            cells = [workload, precision, f"{tokens / total['ours']:,.0f}"]
            target = _target(arguments, TARGETS.get((workload, precision), ""))
            if peer is None:
                cells += ["", ""]
            else:
                cells += [f"{tokens / total['peer']:,.0f}", f"{total['peer'] / total['ours']:.2f}"]
            cells.append(target)
            for name in ("ours", "peer"):
                measured = best is not None and name in total
                cells.append(f"{flops / total[name] / best:.2f}" if measured else "")
            print(f"| {' | '.join(cells)} |", flush=True)
            speeds = ", ".join(f"{name} {speed / 1e9:.1f}" for name, speed in ceiling.items())
            if speeds:
                notes.append(f"{workload}, {precision}: ceiling in GFLOP/s: {speeds}")
    print("\n" + "\n".join(f"- {note}" for note in notes), flush=True)


def training(arguments: argparse.Namespace, peer: Callable[[dict], dict] | None) -> None:
    """Measures steps of training in float32 on the heavy-tailed workload."""
    contestants = {"ours": train_batch()}
    if peer is not None:
        contestants["peer"] = lambda lengths: peer({"do": "train", "lengths": lengths.tolist()})["seconds"]
    lengths = WORKLOADS["heavy-tailed"].lengths(arguments.sentences)[: arguments.training_sentences]
    batches = in_batches(lengths, TRAINING_BATCH)
    turns = take_turns(contestants, batches, {}, warm_up=_warm_up(arguments, batches))
    tokens = sum(int(batch.sum()) for batch in batches)
    print(f"\n| training step, heavy-tailed, {TRAINING_BATCH} sentences, float32 | tokens/s | ours / peer | target |")
    print("|---|---|---|---|")
    for name, seconds in turns.seconds.items():
        print(f"| {name} | {tokens / sum(seconds):,.0f} |", end="")
        ratio = sum(turns.seconds["peer"]) / sum(seconds) if name == "ours" and peer is not None else None
        print(" | |" if ratio is None else f" {ratio:.2f} | {_target(arguments, 'at least 2')} |", flush=True)


def seed(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> None:
    """Measures forward passes against the seed's graph, padded to 512, on the heavy-tailed workload.

    The seed's graph runs twice: as TensorFlow runs it by itself, and with oneDNN, which is part of what ours gains.
    """

    def padded(environment: dict[str, str]) -> TimeBatch:
        graph = stack.enter_context(_process([sys.executable, "-m", "bench.seed_model"], environment))
        graph({"config": _hugging_face_config(), "tag_count": TAG_COUNT, "rows": SEED_ROWS, "length": SEED_LENGTH})

        def timed(lengths: np.ndarray) -> float:
            parts = in_batches(lengths, SEED_ROWS)
            return sum(graph({"lengths": part.tolist()})["seconds"] for part in parts)

        return timed

    by_itself = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    lengths = WORKLOADS["heavy-tailed"].lengths(arguments.sentences)[: 2 * arguments.batch]
    contestants = {
        # What the seed's code calls "gelu" is the tanh approximation.
        "ours": tag_batch("float32", dataclasses.replace(BERT_BASE, hidden_activation="gelu_new")),
        "seed": padded(by_itself),
        "seed, oneDNN": padded(by_itself | {"TF_ENABLE_ONEDNN_OPTS": "1"}),
    }
    batches = in_batches(lengths, arguments.batch)
    turns = take_turns(contestants, batches, {}, warm_up=_warm_up(arguments, batches))
    print("\n| forward pass, heavy-tailed, float32 | sentences/s | ours / this | target |\n|---|---|---|---|")
    for name, seconds in turns.seconds.items():
        ratio = "" if name == "ours" else f"{sum(seconds) / sum(turns.seconds['ours']):.1f}"
        target = _target(arguments, "at least 20") if name == "seed" else ""
        print(f"| {name} | {len(lengths) / sum(seconds):.2f} | {ratio} | {target} |", flush=True)


def take_turns(
    contestants: dict[str, TimeBatch],
    batches: list[np.ndarray],
    ceilings: dict[str, Callable[[], float]],
    *,
    warm_up: int = 1,
) -> Turns:
    """Times every contestant on every batch, one after another, and the ceilings between batches.

    The first `warm_up` batches are given to each before, so that neither tracing nor first allocations count.
    """
    for time_batch in contestants.values():
        for batch in batches[:warm_up]:
            time_batch(batch)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    speeds: dict[str, list[float]] = {name: [] for name in ceilings}
    for batch in batches:
        for name, time_batch in contestants.items():
            seconds[name].append(time_batch(batch))
        for name, measure in ceilings.items():
            speeds[name].append(measure())
    return Turns(seconds, speeds)


def tag_batch(precision: str, config: EncoderConfig = BERT_BASE) -> TimeBatch:
    """Returns the function that times one forward pass of ours; weights are stored in `precision`, too."""
    tagger = FusionTagger(config, TAG_COUNT, seed=1, compute_dtype=precision, variable_dtype=precision)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)] * 2, autograph=False)
    def tag(token_ids: tf.Tensor, row_lengths: tf.Tensor) -> tf.Tensor:
        return tf.argmax(tagger(token_ids, row_lengths).logits, axis=-1)

    def timed(lengths: np.ndarray) -> float:
        arguments = tf.constant(_token_ids(lengths, config)), tf.constant(lengths, tf.int32)
        started = time.perf_counter()
        tag(*arguments).numpy()
        return time.perf_counter() - started

    return timed


def train_batch(config: EncoderConfig = BERT_BASE) -> TimeBatch:
    """Returns the function that times one training step of ours: forward, backward, clipping, AdamW."""
    tagger = FusionTagger(config, TAG_COUNT, seed=1)
    variables = list(tagger.trainable_variables)
    optimizer = AdamW(
        variables,
        peaks=[1e-5] * len(variables),
        decayed=[variable.shape.rank > 1 for variable in variables],
        schedule=Schedule(total_steps=1000, warmup_steps=100),
        weight_decay=0.01,
        clip_norm=1.0,
    )
    step = train_step(tagger, optimizer, seed=1)

    def timed(lengths: np.ndarray) -> float:
        ids = _token_ids(lengths, config)
        tag_ids = ids % TAG_COUNT
        starts = np.cumsum(lengths) - lengths
        tag_ids[np.concatenate([starts, starts + lengths - 1])] = NO_TAG
        batch = TrainingBatch(ids, lengths.astype(np.int32), tag_ids)
        started = time.perf_counter()
        step([batch])
        return time.perf_counter() - started

    return timed


def _ceilings(precision: str, peer: Callable[[dict], dict] | None) -> dict[str, Callable[[], float]]:
    """Returns what measures the fastest matrix product now, FLOP/s, of TensorFlow and of PyTorch."""
    # A slow precision is measured on its smallest product; its speed hardly depends on the shape.
    shapes = CEILING_SHAPES if precision == "float32" else CEILING_SHAPES[1:2]
    operations = [2 * rows * inner * columns for rows, inner, columns in shapes]
    dtype = tf.as_dtype(precision)
    operands = [
        (tf.cast(tf.random.normal([rows, inner]), dtype), tf.cast(tf.random.normal([inner, columns]), dtype))
        for rows, inner, columns in shapes
    ]
    product = tf.function(tf.matmul)
    for left, right in operands:
        product(left, right)

    def of_tensorflow() -> float:
        speeds = []
        for (left, right), count in zip(operands, operations, strict=True):
            started = time.perf_counter()
            # The time of a product is that of the call: on a processor it is done when the call returns.
            product(left, right)[0, 0].numpy()
            speeds.append(count / (time.perf_counter() - started))
        return max(speeds)

    def of_pytorch() -> float:
        assert peer is not None
        seconds = peer({"do": "matmul", "shapes": shapes, "precision": precision})["seconds"]
        return max(count / each for count, each in zip(operations, seconds, strict=True))

    return {"TensorFlow": of_tensorflow} | ({} if peer is None else {"PyTorch": of_pytorch})


def _warm_up(arguments: argparse.Namespace, batches: list[np.ndarray]) -> int:
    """Returns how many batches run untimed first: on a GPU all, since the first run of a shape loads kernels."""
    return 1 if arguments.device == "cpu" else len(batches)


def _target(arguments: argparse.Namespace, target: str) -> str:
    """Returns the target, which is one for processors; nothing on a GPU."""
    return target if arguments.device == "cpu" else ""


def _best_threads(peer: Callable[[dict], dict]) -> int:
    """Returns the number of threads with which the peer is fastest: one, or as many as cores."""
    lengths = WORKLOADS["uniform"].lengths(8).tolist()
    median = {}
    for count in (1, len(os.sched_getaffinity(0))):
        peer({"do": "threads", "count": count})
        seconds = [peer({"do": "tag", "lengths": lengths, "precision": "float32"})["seconds"] for _ in range(4)]
        median[count] = statistics.median(seconds[1:])
    return min(median, key=lambda count: median[count])


def _token_ids(lengths: np.ndarray, config: EncoderConfig) -> np.ndarray:
    return (np.arange(int(lengths.sum()), dtype=np.int64) * 7919 % (config.vocab_size - 1) + 1).astype(np.int32)


def _hugging_face_config() -> dict[str, Any]:
    return {
        "vocab_size": BERT_BASE.vocab_size,
        "hidden_size": BERT_BASE.hidden_size,
        "num_hidden_layers": BERT_BASE.num_layers,
        "num_attention_heads": BERT_BASE.num_heads,
        "intermediate_size": BERT_BASE.intermediate_size,
        "max_position_embeddings": BERT_BASE.max_positions,
        "hidden_act": BERT_BASE.hidden_activation,
        "type_vocab_size": BERT_BASE.type_vocab_size,
    }


def _print_workloads(arguments: argparse.Namespace) -> None:
    print("| workload | sentences | mean tokens | median | 95 % below | longest | positions a token, padded batches |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.workloads:
        lengths = WORKLOADS[name].lengths(arguments.sentences)
        factor = padding_factor(in_batches(lengths, arguments.batch))
        print(
            f"| {name} | {len(lengths)} | {lengths.mean():.1f} | {np.median(lengths):.0f} "
            f"| {np.quantile(lengths, 0.95):.0f} | {lengths.max()} | {factor:.2f} |"
        )
    print()


@contextlib.contextmanager
def _process(command: list[str], environment: dict[str, str] | None = None) -> Iterator[Callable[[dict], dict]]:
    """Starts a process that answers lines of JSON, and yields the function that asks it."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    requests, answers = process.stdin, process.stdout
    assert requests is not None
    assert answers is not None

    def ask(request: dict) -> dict:
        print(json.dumps(request), file=requests, flush=True)
        line = answers.readline()
        if not line:
            raise RuntimeError(f"{' '.join(command)} ended with status {process.wait()}; its errors stand above")
        return json.loads(line)

    try:
        yield ask
    finally:
        requests.close()
        process.wait()


if __name__ == "__main__":
    main()
