"""Size, memory and latency of an exported BERT-base by the type of its matrices and of its products.

    TF_ENABLE_ONEDNN_OPTS=1 python -m bench.model_precision [--rounds 5] [--variants float32/float32 bfloat16/bfloat16]

All models have the same random weights. Each is loaded by a process of its own, one after another, which answers the
signature `tokens`; the least time counts. Memory is that of the process, less what
it held before it loaded the model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers the ops of the tokenizer inside the model

from bench.measuring import machine
from bench.model_memory import characters
from bench.workloads import BERT_BASE
from components.tags import tag_names
from components.trainer.servable import Servable, export
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger
from components.transform.tokenizer import Tokenizer

# Type in which matrices are stored / type in which products are computed.
VARIANTS = ("float32/float32", "bfloat16/bfloat16", "bfloat16/float32", "float16/float16", "float16/float32")
# Rows of a request, and tokens of each.
REQUESTS = ((1, 16), (8, 32), (32, 64))


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed requests of each size (default: 5)")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--serve", metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        print(json.dumps(serve(arguments.serve, arguments.rounds)))
        return
    sizes = [f"{rows} x {length}, ms" for rows, length in REQUESTS]
    print("| stored / computed | disk, MB | memory when loaded | after requests | peak | " + " | ".join(sizes) + " |")
    print("|---" * (5 + len(sizes)) + "|", flush=True)
    for variant in arguments.variants:
        with tempfile.TemporaryDirectory(prefix="bench-precision-") as folder:
            command = [sys.executable, "-m", "bench.model_precision"]
            write_model(folder, *variant.split("/"))
            disk = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
            output = subprocess.run(
                [*command, "--serve", folder, "--rounds", str(arguments.rounds)], capture_output=True, check=True
            ).stdout
        measured = json.loads(output.splitlines()[-1])
        cells = [disk / 1e6, *(bytes_ / 1e6 for bytes_ in measured["memory"]), *measured["milliseconds"]]
        print(f"| {variant} | {' | '.join(f'{cell:.0f}' for cell in cells)} |", flush=True)
    print(f"\n{machine()}")


def write_model(folder: str, stored: str, computed: str) -> None:
    """Exports a tagger of BERT-base's size with random weights."""
    vocabulary, tags = characters(BERT_BASE.vocab_size), tag_names(["LOC", "ORG", "PER"])
    tagger = FusionTagger(BERT_BASE, len(tags), seed=1, variable_dtype=stored, compute_dtype=computed)
    text_tagger = TextTagger(
        tagger, cls_id=vocabulary.cls_id, sep_id=vocabulary.sep_id, window=512, overlap=128, continuation=None
    )
    export(Servable(Tokenizer(vocabulary, lower_case=True), text_tagger, tags), folder)


def serve(folder: str, rounds: int) -> dict[str, Any]:
    """Returns the memory when loaded, after the requests and at the peak, and the least ms of each request."""
    bare = _own_memory()["VmRSS"]
    model = tf.saved_model.load(folder)
    tokens = model.signatures["tokens"]
    loaded = _own_memory()["VmRSS"]
    random = np.random.default_rng(1)
    milliseconds = []
    for shape in REQUESTS:
        token_ids = tf.constant(random.integers(0, BERT_BASE.vocab_size, shape), tf.int32)
        seconds = []
        for _ in range(rounds + 1):  # the first warms up
            started = time.perf_counter()
            tokens(token_ids=token_ids, padding_mask=tf.ones_like(token_ids))
            seconds.append(time.perf_counter() - started)
        milliseconds.append(1000 * min(seconds[1:]))
    after = _own_memory()
    memory = [each - bare for each in (loaded, after["VmRSS"], after["VmHWM"])]
    return {"memory": memory, "milliseconds": milliseconds}


def _own_memory() -> dict[str, int]:
    """Returns what this process holds, and held at most, in bytes, by the names of /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}


if __name__ == "__main__":
    main()
