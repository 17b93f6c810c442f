"""Resident memory of a model server with a BERT-base, against its weights and against a server with a tiny model.

    python -m bench.model_memory [--embedded] [--sentences 200]

Both models have random weights, the same vocabulary and the warm-up requests of a trained model. What the server with
the tiny model holds is taken for TensorFlow's own and the server's. Memory is that of the server's process and of those
that it started, as the kernel counts it (/proc/PID/smaps_rollup): a page that several processes share counts once. It
is read when the model is available and again after requests of the heavy-tailed workload, one at a time.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from bench.measuring import MEMORY_NAMES, machine, process_memory
from bench.workloads import BERT_BASE, WORKLOADS
from components.tags import tag_names
from components.trainer.encoder_config import EncoderConfig
from components.trainer.servable import Servable, export
from components.trainer.settings import ServingWarmUpSettings
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger
from components.trainer.warm_up import synthetic_text, warm_up_requests, write_warm_up
from components.transform.tokenizer import Tokenizer
from components.transform.vocabulary import REQUIRED_TOKENS, Vocabulary
from serving.client import Client
from serving.model_server import ServerProgram, embedded_server, find_model_server, start_model_server

TARGET = 1.4
FIRST_CHARACTER = 0x4E00
TINY = dataclasses.replace(BERT_BASE, hidden_size=12, num_layers=12, num_heads=12, intermediate_size=12)


class Memory(NamedTuple):
    """Bytes of a server, by the kernel's names, when its model became available and after requests."""

    available: dict[str, int]
    after_requests: dict[str, int]


def main() -> None:
    """Prints tables in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--embedded", action="store_true", help="start the embedded server in any case")
    parser.add_argument("--sentences", type=int, default=200, help="requests after the start (default: 200)")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--without-warm-up", action="store_true", help="leave the warm-up requests out of the models")
    arguments = parser.parse_args()
    program = embedded_server() if arguments.embedded else find_model_server()
    vocabulary = characters(BERT_BASE.vocab_size)
    lengths = WORKLOADS["heavy-tailed"].lengths(arguments.sentences)
    texts = [synthetic_text(vocabulary, max(int(length) - 2, 1)) for length in lengths]
    memory = {}
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as folder:
        for name, config in (("tiny", TINY), ("BERT-base", BERT_BASE)):
            size = write_model(
                Path(folder) / name / "1",
                config,
                vocabulary,
                arguments.precision,
                warm_up=not arguments.without_warm_up,
            )
            gc.collect()
            memory[name] = serve(Path(folder) / name, program, texts)
    print(f"{program.name}, {arguments.precision}; {len(texts)} requests; {machine()}\n")
    print(f"| MB | {' | '.join(f'{name}, available | {name}, after requests' for name in memory)} |")
    print(f"|---|{'---|---|' * len(memory)}")
    for name in MEMORY_NAMES:
        cells = [f"{part[name] / 1e6:.0f}" for each in memory.values() for part in each]
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\nweights: {size / 1e6:.0f} MB\n")
    print("| (BERT-base - tiny) / weights | target | measured |\n|---|---|---|")
    for moment in Memory._fields:
        base, tiny = (getattr(memory[each], moment)["Pss"] for each in ("BERT-base", "tiny"))
        print(f"| {moment.replace('_', ' ')} | below {TARGET} | {(base - tiny) / size:.2f} |")


def write_model(
    folder: Path, config: EncoderConfig, vocabulary: Vocabulary, precision: str, *, warm_up: bool = True
) -> int:
    """Writes a servable model with random weights; returns the bytes of its weights."""
    tags = tag_names(["LOC", "ORG", "PER"])
    tagger = FusionTagger(config, len(tags), seed=1, compute_dtype=precision, variable_dtype=precision)
    text_tagger = TextTagger(
        tagger, cls_id=vocabulary.cls_id, sep_id=vocabulary.sep_id, window=512, overlap=128, continuation=None
    )
    export(Servable(Tokenizer(vocabulary, lower_case=True), text_tagger, tags), folder)
    if warm_up:
        write_warm_up(folder, warm_up_requests(vocabulary, config.max_positions, ServingWarmUpSettings()))
    return sum(int(tf.size(variable)) * variable.dtype.size for variable in tagger.trainable_variables)


def serve(model: Path, program: ServerProgram, texts: Sequence[str]) -> Memory:
    """Starts the server, sends the texts one at a time, and returns what the server held before and after."""
    with start_model_server(model, "ner", program=program, deployment="cpu") as server:
        server.wait_until_available(timeout=1800)
        available = process_memory(server.process.pid)
        with Client(server.target, model_name="ner") as client:
            for text in texts:
                client.tag([text])
        return Memory(available, process_memory(server.process.pid))


def characters(size: int) -> Vocabulary:
    """Returns a vocabulary of `size` pieces: the special tokens and Chinese characters."""
    return Vocabulary(
        (*REQUIRED_TOKENS, *(chr(FIRST_CHARACTER + number) for number in range(size - len(REQUIRED_TOKENS))))
    )


if __name__ == "__main__":
    main()
