"""Continuous training on one machine: three spans of data, three runs, one refused, and a client that notices nothing.

A folder `data/<span>/` appears for each batch of new annotations, the second one spoilt. Each run takes the newest
span, starts from the served version, and pushes only what passes the gate; the server picks up what is pushed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from serving.client import Client, ConnectionSettings, ServingError
from serving.model_server import start_model_server

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "examples" / "zh"
MODEL_NAME = "ner"
SPANS = 3
SPOILT_SPAN = 2
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SECONDS_BETWEEN_REQUESTS = 0.05
SECONDS_TO_PICK_UP = 60.0


@dataclasses.dataclass
class Traffic:
    """What a client saw: requests, failures, and the versions that answered, in their order."""

    requests: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    versions: list[int] = dataclasses.field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demonstration; returns 0 if two spans were pushed, one refused, and no request failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--texts", type=int, default=400, help="training texts of each span (400)")
    parser.add_argument("--epochs", type=int, default=6, help="of each run (6)")
    arguments = parser.parse_args(argv)
    if arguments.folder is not None:
        return demonstrate(arguments.folder.resolve(), texts=arguments.texts, epochs=arguments.epochs)
    with tempfile.TemporaryDirectory(prefix="fusion-ner-continuous-") as folder:
        return demonstrate(Path(folder), texts=arguments.texts, epochs=arguments.epochs)


def demonstrate(folder: Path, *, texts: int, epochs: int) -> int:
    """Runs the three spans in `folder`; see `main`."""
    serving = folder / "output" / "serving" / MODEL_NAME
    configuration = write_configuration(folder, serving, epochs=epochs)
    write_vocabulary(folder / "vocab.txt")
    if run_span(folder, configuration, serving, 1, texts=texts) is None:
        print("the first span was not pushed; there is nothing to serve", file=sys.stderr)
        return 1
    pushed = [True]
    with start_model_server(serving, MODEL_NAME, flags=("--file_system_poll_wait_seconds=1",)) as server:
        server.wait_until_available(120)
        stop, traffic = threading.Event(), Traffic()
        client = threading.Thread(target=tag_until, args=(stop, server.target, traffic))
        client.start()
        try:
            for span in range(2, SPANS + 1):
                version = run_span(folder, configuration, serving, span, texts=texts)
                pushed.append(version is not None)
                if version is not None:
                    wait_for(version, traffic)
        finally:
            stop.set()
            client.join()
    print(f"the client: {traffic.requests} requests, {len(traffic.failures)} failed; versions {traffic.versions}")
    for failure in traffic.failures[:3]:
        print(f"  {failure}", file=sys.stderr)
    expected = [span != SPOILT_SPAN for span in range(1, SPANS + 1)]
    complete = pushed == expected and not traffic.failures and len(traffic.versions) == sum(expected)
    return 0 if complete else 1


def write_configuration(folder: Path, serving: Path, *, epochs: int) -> Path:
    """Writes the configuration of all runs: the paths name the span, the weights come from what is served."""
    values: dict[str, Any] = {
        "name": MODEL_NAME,
        "output": str(folder / "output"),
        "data": {split: str(folder / "data" / "{SPAN}" / f"{split}.jsonl") for split in ("train", "dev", "test")},
        "transform": {"vocabulary": str(folder / "vocab.txt"), "lower_case": True},
        "trainer": {
            "warm_start": str(serving),
            "random_encoder": {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "intermediate_size": 128},
            "epochs": epochs,
            "learning_rate": 2e-3,
            "batch_tokens": 1024,
        },
        "evaluator": {"minimum_f1": 0.3},
    }
    path = folder / "continuous.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def write_vocabulary(path: Path) -> None:
    """Writes a vocabulary of single characters, which stays the same for all spans, as a warm start needs it."""
    lines = (CORPUS / "train.jsonl").read_text(encoding="utf-8").splitlines()
    characters = sorted({character for line in lines for character in json.loads(line)["text"].lower().strip()})
    characters = [character for character in characters if not character.isspace()]
    continuations = [f"##{character}" for character in characters if character.isalnum() and character.isascii()]
    path.write_text("\n".join([*SPECIAL_TOKENS, *characters, *continuations]) + "\n", encoding="utf-8")


def write_span(folder: Path, span: int, *, texts: int) -> None:
    """Writes the annotations of one span; the spoilt one names entities that are not there."""
    target = folder / "data" / str(span)
    target.mkdir(parents=True)
    for split, count in (("train", texts), ("dev", 100), ("test", 150)):
        lines = (CORPUS / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        start = (span - 1) * texts if split == "train" else 0
        records = [json.loads(line) for line in lines[start : start + count]]
        if span == SPOILT_SPAN and split != "test":
            records = [spoil(record) for record in records]
        content = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (target / f"{split}.jsonl").write_text(content, encoding="utf-8")


def spoil(record: dict[str, Any]) -> dict[str, Any]:
    """Returns a record whose entities are moved and renamed, as by a broken export of an annotation tool."""
    generator = random.Random(record["id"])
    types = [entity["type"] for entity in record["entities"]]
    generator.shuffle(types)
    entities = []
    for index, (entity, type_) in enumerate(zip(record["entities"], types, strict=True)):
        following = record["entities"][index + 1]["start"] if index + 1 < len(types) else len(record["text"])
        if entity["end"] < following and entity["end"] - entity["start"] > 1:
            entity = {**entity, "start": entity["start"] + 1, "end": entity["end"] + 1}
        entities.append({**entity, "type": type_})
    # White space at the edges of an entity would be refused when it is read.
    kept = [entity for entity in entities if not _has_blank_edge(record["text"], entity)]
    return {**record, "entities": kept}


def _has_blank_edge(text: str, entity: dict[str, Any]) -> bool:
    surface = text[entity["start"] : entity["end"]]
    return surface != surface.strip()


def run_span(folder: Path, configuration: Path, serving: Path, span: int, *, texts: int) -> int | None:
    """Writes a span, runs the pipeline, and returns the version that it pushed, or None."""
    write_span(folder, span, texts=texts)
    before = versions_in(serving)
    start = time.monotonic()
    command = [sys.executable, "-m", "pipeline.command_line", "run", "--config", str(configuration)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (folder / f"span-{span}.log").write_text(run.stdout + run.stderr, encoding="utf-8")
    pushed = versions_in(serving) - before
    metrics = folder / "output" / "metrics.json"
    if not metrics.is_file():
        raise RuntimeError(f"the run of span {span} failed:\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}")
    f1 = json.loads(metrics.read_text(encoding="utf-8"))["test"]["strict"]["f1"]
    outcome = f"pushed version {max(pushed)}" if pushed else "refused by the gate"
    print(f"span {span}: F1 {f1:.3f}, {outcome} ({time.monotonic() - start:.0f} s)", flush=True)
    return max(pushed) if pushed else None


def versions_in(serving: Path) -> set[int]:
    """Returns the versions in a serving directory."""
    return {int(path.name) for path in serving.glob("[0-9]*")} if serving.is_dir() else set()


def tag_until(stop: threading.Event, target: str, traffic: Traffic) -> None:
    """Tags sentences until told to stop, and notes what happens."""
    lines = (CORPUS / "test.jsonl").read_text(encoding="utf-8").splitlines()[:50]
    texts = [json.loads(line)["text"] for line in lines]
    # No retries beyond the time of one request: a gap between two versions would show.
    with Client(target, model_name=MODEL_NAME, settings=ConnectionSettings(timeout=10.0)) as client:
        while not stop.is_set():
            text = texts[traffic.requests % len(texts)]
            traffic.requests += 1
            try:
                (tagged,) = client.tag([text])
            except ServingError as error:
                traffic.failures.append(str(error))
            else:
                version = tagged.model_version
                if version is not None and version not in traffic.versions:
                    traffic.versions.append(version)
            stop.wait(SECONDS_BETWEEN_REQUESTS)


def wait_for(version: int, traffic: Traffic) -> None:
    """Waits until the new version has answered a request."""
    deadline = time.monotonic() + SECONDS_TO_PICK_UP
    while version not in traffic.versions and time.monotonic() < deadline:
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
