"""Trains the tagger with several fusions and seeds and scores each on the test split, with intervals.

    python -m bench.quality run CORPUS --fusions dynamic static last --seeds 1 2 3 4 5 --epochs 4 --results R.jsonl
    python -m bench.quality texts CORPUS                            # the same splits for bench/peer_quality.py
    python -m bench.quality score CORPUS --predictions FILE --results R.jsonl
    python -m bench.quality summary --results R.jsonl --plot quality.png

CORPUS stands for --name wnut17 --config examples/pretrained.yaml --train F --dev F --test F [--encoder DIR] --work DIR.

The pipeline runs once per corpus up to Transform. Each run then is the Trainer's own `run_fn`, and the scores are those
of the exported model's `examples` signature on the raw test split, against all gold entities, as the Evaluator computes
them. Every run is one line of the results; a run that is there already is skipped, and several processes may share a
results file. A process uses one thread, so that as many as there are cores may work side by side.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from bench.intervals import print_summary
from components import progress
from components.code_version import code_version
from components.settings import settings_to_json
from components.trainer.settings import TrainerSettings
from pipeline.configuration import Configuration, read_configuration

SCORED_TOGETHER = 64
# Settings that say where things are and not what is trained.
PLACES = ("encoder", "encoder_digest", "checkpoint_directory", "checkpoint_minutes", "serving_warm_up")


@dataclasses.dataclass(frozen=True)
class Splits:
    """Where a corpus lies after Transform.

    Args:
        examples: folder with the raw examples, `Split-train` and so on.
        transformed_examples: the same, tokenized.
        transform_graph: folder of the vocabulary and the tags.
    """

    examples: str
    transformed_examples: str
    transform_graph: str


def main() -> None:
    """Runs one of the commands of the module's docstring."""
    arguments = _parser().parse_args()
    if arguments.command == "summary":
        print_summary(_read_results(arguments.results), plot=arguments.plot)
        return
    progress.show_on(logging.StreamHandler(sys.stdout))
    _use_one_thread()
    configuration = _configuration(arguments)
    splits = prepare(configuration, Path(arguments.work) / arguments.name)
    if arguments.command == "texts":
        write_texts(splits, Path(arguments.work) / arguments.name / "texts")
    elif arguments.command == "score":
        for path in arguments.predictions:
            _append(arguments.results, score_predictions(arguments.name, splits, path))
    else:
        for seed in arguments.seeds:
            for fusion in arguments.fusions:
                settings = dataclasses.replace(configuration.trainer, fusion=fusion, seed=seed)
                _run_once(arguments, settings, splits)


def prepare(configuration: Configuration, folder: Path) -> Splits:
    """Runs the pipeline up to Transform in `folder`, once, and returns what it left."""
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "splits.json"
    with _locked(folder / "prepare.lock"):
        if not done.exists():
            from pipeline.local_runner import ProgressRunner, output_uris

            pipeline = _pipeline_to_transform(configuration, folder)
            runner = ProgressRunner(on_start=lambda component: None, on_end=print)
            runner.run(pipeline)
            outputs = {run.component: output_uris(pipeline, run) for run in runner.component_runs}
            splits = Splits(
                examples=outputs["AnnotatedTextExampleGen"]["examples"],
                transformed_examples=outputs["Transform"]["transformed_examples"],
                transform_graph=outputs["Transform"]["transform_graph"],
            )
            done.write_text(json.dumps(dataclasses.asdict(splits)), encoding="utf-8")
    return Splits(**json.loads(done.read_text(encoding="utf-8")))


def _pipeline_to_transform(configuration: Configuration, folder: Path) -> Any:
    """The first steps of `pipeline.pipeline.create_pipeline`; a pipeline of TFX cannot be cut after it is made."""
    from tfx.orchestration.metadata import sqlite_metadata_connection_config
    from tfx.orchestration.pipeline import Pipeline

    from components.example_gen.component import AnnotatedTextExampleGen
    from components.transform.component import create_transform
    from components.validation.component import make_validation_components

    example_gen = AnnotatedTextExampleGen(configuration.data)
    validation = make_validation_components(example_gen.outputs["examples"])
    transform = create_transform(
        examples=example_gen.outputs["examples"],
        schema=validation.schema.outputs["schema"],
        settings=configuration.transform,
    )
    transform.add_upstream_node(validation.example_validator)
    return Pipeline(
        pipeline_name=configuration.name,
        pipeline_root=str(folder / "artifacts"),
        components=[example_gen, *validation, transform],
        metadata_connection_config=sqlite_metadata_connection_config(str(folder / "metadata.sqlite")),
        beam_pipeline_args=["--direct_running_mode=in_memory", "--direct_num_workers=1"],
    )


def train_and_score(settings: TrainerSettings, splits: Splits, folder: Path) -> dict[str, Any]:
    """Trains and exports in `folder`, going on where an earlier process was ended; returns scores and times."""
    from components.trainer.run import TRAINING_REPORT, run_fn

    wall, processor = time.monotonic(), time.process_time()
    run_fn(
        SimpleNamespace(
            custom_config=settings_to_json(settings),
            train_files=[f"{splits.transformed_examples}/Split-train/*"],
            eval_files=[f"{splits.transformed_examples}/Split-dev/*"],
            transform_graph_path=splits.transform_graph,
            serving_model_dir=str(folder / "model"),
            model_run_dir=str(folder / "run"),
        )
    )
    report = json.loads((folder / "run" / TRAINING_REPORT).read_text(encoding="utf-8"))
    scores = score_model(folder / "model", splits)
    return {
        "dev_f1": [epoch["f1"] for epoch in report["epochs"]],
        "best_epoch": report["best_epoch"],
        "layer_weights": report["epochs"][report["best_epoch"] - 1]["layer_weights"],
        "test": scores,
        "seconds": round(time.monotonic() - wall, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
    }


def score_model(model: Path, splits: Splits) -> dict[str, Any]:
    """Returns the strict report of an exported model on the raw test split, as JSON."""
    import numpy as np

    from components import features
    from components.evaluator.entity_scores import StrictReport, count_entities
    from components.evaluator.metrics import parse_entities
    from serving.embedded.saved_model import LoadedModel

    examples = _serialized(splits, "test")
    loaded = LoadedModel(model)
    report = StrictReport()
    outputs = [features.GOLD_ENTITIES, features.PREDICTED_ENTITIES]
    for first in range(0, len(examples), SCORED_TOGETHER):
        batch = np.array(examples[first : first + SCORED_TOGETHER], object)
        gold, predicted = loaded.run(features.EXAMPLES_SIGNATURE, {features.EXAMPLES: batch}, outputs)
        for gold_row, predicted_row in zip(gold.tolist(), predicted.tolist(), strict=True):
            report += count_entities(parse_entities(gold_row), parse_entities(predicted_row))
    loaded.close()
    assert report.texts == len(examples)
    return report.to_json()


def write_texts(splits: Splits, folder: Path) -> None:
    """Writes each split as JSON lines `{"id", "text", "entities": [[start, end, type], ..]}`, for the peer."""
    from components.example_gen.examples import from_example

    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev", "test"):
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for text in map(from_example, _serialized(splits, split)):
                entities = [dataclasses.astuple(entity) for entity in text.entities]
                print(json.dumps({"id": text.id, "text": text.text, "entities": entities}), file=file)


def score_predictions(name: str, splits: Splits, path: Path) -> dict[str, Any]:
    """Scores what `bench/peer_quality.py` wrote, by our own counts, against the gold entities of the test split.

    Raises:
        ValueError: the predictions are not of these texts.
    """
    from components.annotated_text import Entity
    from components.evaluator.entity_scores import StrictReport, count_entities
    from components.example_gen.examples import from_example

    record = json.loads(path.read_text(encoding="utf-8"))
    predictions = {each["id"]: each["entities"] for each in record.pop("predictions")}
    gold = [from_example(serialized) for serialized in _serialized(splits, "test")]
    if len(predictions) != len(gold) or {text.id for text in gold} != set(predictions):
        raise ValueError(f"{path}: its {len(predictions)} texts are not the {len(gold)} of the test split of {name}")
    report = sum(
        (count_entities(text.entities, [Entity(*entity) for entity in predictions[text.id]]) for text in gold),
        StrictReport(),
    )
    settings = record.pop("settings")
    return {"corpus": name, "key": _key(name, {"peer": True, **settings}), "settings": settings, **record} | {
        "test": report.to_json()
    }


def changed_settings(settings: TrainerSettings) -> dict[str, Any]:
    """Returns the settings that say what is trained and differ from their defaults."""
    defaults = settings_to_json(TrainerSettings())
    return {
        name: value
        for name, value in settings_to_json(settings).items()
        if (value != defaults[name] and name not in PLACES) or name == "fusion"
    } | ({} if settings.encoder is None else {"encoder": Path(settings.encoder).parent.name or settings.encoder})


def _run_once(arguments: argparse.Namespace, settings: TrainerSettings, splits: Splits) -> None:
    """Trains and scores one configuration unless that is done or being done."""
    changed = changed_settings(settings)
    key = _key(arguments.name, changed)
    folder = Path(arguments.work) / arguments.name / "runs" / key
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock", wait=False) as mine:
        if not mine or any(result["key"] == key for result in _read_results(arguments.results)):
            return
        print(time.strftime("%H:%M:%S"), arguments.name, changed, flush=True)
        result = train_and_score(settings, splits, folder)
        code = code_version()
        _append(
            arguments.results,
            {"corpus": arguments.name, "key": key, "settings": changed, "seed": settings.seed, **result}
            | {"label": arguments.label or settings.fusion, "commit": code.commit, "modified": code.modified},
        )
        print(time.strftime("%H:%M:%S"), "test F1", round(result["test"]["strict"]["f1"], 4), flush=True)
    shutil.rmtree(folder)


def _configuration(arguments: argparse.Namespace) -> Configuration:
    overrides: dict[tuple[str, ...], Any] = {
        ("data", split): os.path.abspath(getattr(arguments, split)) for split in ("train", "dev", "test")
    }
    overrides[("output",)] = os.path.abspath(Path(arguments.work) / arguments.name)
    if arguments.encoder:
        overrides[("trainer", "encoder")] = os.path.abspath(arguments.encoder)
    for section in ("data", "trainer"):
        for assignment in getattr(arguments, f"set_{section}"):
            name, _, value = assignment.partition("=")
            overrides[(section, *name.split("."))] = yaml.safe_load(value)
    for name in ("epochs", "learning_rate"):
        if getattr(arguments, name) is not None:
            overrides[("trainer", name)] = getattr(arguments, name)
    return read_configuration(arguments.config, overrides)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    summary = commands.add_parser("summary", help="print the table of a results file and draw it")
    summary.add_argument("--results", type=Path, required=True, nargs="+")
    summary.add_argument("--plot", type=Path, help="PNG file to write")
    for name, help_text in (
        ("run", "train and score"),
        ("texts", "write the splits for the peer"),
        ("score", "score predictions of the peer"),
    ):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("--name", required=True, help="of the corpus, in the results")
        command.add_argument("--config", type=Path, required=True, help="configuration as of `fusion-ner run`")
        for split in ("train", "dev", "test"):
            command.add_argument(f"--{split}", required=True)
        command.add_argument("--encoder", help="folder of a pretrained encoder")
        command.add_argument("--data", dest="set_data", action="append", default=[], metavar="NAME=VALUE")
        command.add_argument("--set", dest="set_trainer", action="append", default=[], metavar="NAME=VALUE")
        command.add_argument("--epochs", type=int)
        command.add_argument("--learning-rate", type=float)
        command.add_argument("--work", required=True, help="folder for the corpus and unfinished runs")
        if name != "texts":
            command.add_argument("--results", type=Path, required=True, help="file of JSON lines, which grows")
    commands.choices["run"].add_argument("--fusions", nargs="+", default=["dynamic"])
    commands.choices["run"].add_argument("--seeds", nargs="+", type=int, default=[1])
    commands.choices["run"].add_argument("--label", help="name of the configuration in the table; default: the fusion")
    commands.choices["score"].add_argument("--predictions", type=Path, nargs="+", required=True)
    return parser


def _use_one_thread() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import tensorflow as tf
    import tensorflow_text  # noqa: F401 - registers the ops of the tokenizer inside the model

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _serialized(splits: Splits, split: str) -> list[bytes]:
    import tensorflow as tf

    files = sorted(tf.io.gfile.glob(f"{splits.examples}/Split-{split}/*"))
    return list(tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator())


def _key(name: str, settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps([name, settings], sort_keys=True).encode()).hexdigest()[:12]


def _read_results(paths: Path | Sequence[Path]) -> list[dict[str, Any]]:
    files = [paths] if isinstance(paths, Path) else paths
    return [
        json.loads(line) for path in files if path.exists() for line in path.read_text(encoding="utf-8").splitlines()
    ]


def _append(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_suffix(".lock")):
        if all(each["key"] != result["key"] for each in _read_results(path)):
            with path.open("a", encoding="utf-8") as file:
                print(json.dumps(result, ensure_ascii=False), file=file)


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds a lock; without `wait`, yields False where another process holds it."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


if __name__ == "__main__":
    main()
