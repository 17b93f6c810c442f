"""The whole way with the commands of a user: run, run again, refuse, serve, tag, score."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from serving.model_server import find_model_server, free_port

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = [
    "AnnotatedTextExampleGen",
    "StatisticsGen",
    "PackagedSchema",
    "ExampleValidator",
    "Transform",
    "Trainer",
    "Evaluator",
    "ServingInfraValidator",
    "VersionPusher",
]
CONFIGURATION = """
output: out
data: {{train: {train}, dev: {dev}, test: {test}}}
transform: {{vocabulary_size: 600}}
trainer:
  random_encoder: {{hidden_size: 16, num_layers: 2, num_heads: 2, intermediate_size: 32, max_positions: 64}}
  epochs: 1
infra_validator: {{texts: 4, batch_sizes: [1, 4]}}
evaluator: {{minimum_f1: {minimum_f1}}}
"""


def fusion_ner(*words, timeout=600, **options):
    command = [sys.executable, "-m", "pipeline.command_line", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, **options)


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: its folder, its configuration and what the command printed."""

    folder: Path
    configuration: Path
    process: subprocess.CompletedProcess

    @property
    def metrics(self):
        return json.loads((self.folder / "out" / "metrics.json").read_text(encoding="utf-8"))

    @property
    def versions(self):
        folder = self.folder / "out" / "serving" / "ner"
        return sorted(path.name for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []


def write_configuration(folder, minimum_f1):
    path = folder / f"minimum-{minimum_f1}.yaml"
    files = {split: folder / f"{split}.jsonl" for split in ("train", "dev", "test")}
    path.write_text(CONFIGURATION.format(minimum_f1=minimum_f1, **files), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    for split, count in (("train", 80), ("dev", 20), ("test", 30)):
        lines = (ROOT / "examples" / "zh" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{split}.jsonl").write_text("".join(lines[:count]), encoding="utf-8")
    configuration = write_configuration(folder, minimum_f1=0)
    return Run(folder, configuration, fusion_ner("run", "--config", configuration))


def test_a_run_names_every_component_the_scores_and_the_model(run):
    assert run.process.returncode == 0, run.process.stderr
    for words in (*COMPONENTS, "precision", "blessed", str(run.folder / "out" / "serving" / "ner" / run.versions[0])):
        assert words in run.process.stderr


def test_metrics_follow_the_contract(run):
    metrics = run.metrics
    assert set(metrics["test"]["strict"]) == {"precision", "recall", "f1"}
    assert set(metrics["test"]["per_type"]) >= {"PER", "LOC", "ORG"}
    assert metrics["blessed"] is True
    assert set(metrics["seconds"]) == set(COMPONENTS)


def test_gold_entities_are_all_of_the_corpus(run):
    lines = (run.folder / "test.jsonl").read_text(encoding="utf-8").splitlines()
    gold = sum(len(json.loads(line)["entities"]) for line in lines)
    assert sum(scores["support"] for scores in run.metrics["test"]["per_type"].values()) == gold


def test_score_of_the_pushed_model_equals_the_evaluation(run):
    model = run.folder / "out" / "serving" / "ner"
    process = fusion_ner("score", "--gold", run.folder / "test.jsonl", "--format", "json_lines", "--model", model)
    assert process.returncode == 0, process.stderr
    scores = json.loads(process.stdout)
    assert scores["strict"] == run.metrics["test"]["strict"]
    assert scores["per_type"] == run.metrics["test"]["per_type"]


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


@pytest.fixture(params=["embedded", pytest.param("tensorflow_model_server", marks=pytest.mark.tfserving)])
def server_options(request):
    if request.param == "embedded":
        return ["--embedded"]
    if find_model_server().is_embedded:
        pytest.skip("tensorflow_model_server is not on the PATH, nor named by TENSORFLOW_MODEL_SERVER")
    return []


def test_the_served_model_tags_over_grpc_as_it_does_in_process(run, server_options):
    port, rest_port = free_port(), free_port()
    model = run.folder / "out" / "serving" / "ner"
    command = [sys.executable, "-m", "pipeline.command_line", "serve", "--model-base-path", model, *server_options]
    command += ["--port", port, "--rest-api-port", rest_port]
    with (
        (run.folder / "server.log").open("w") as log,
        subprocess.Popen([*map(str, command)], cwd=ROOT, stdout=log, stderr=log) as server,
    ):
        try:
            deadline = time.monotonic() + 120
            while True:
                assert server.poll() is None
                assert time.monotonic() < deadline
                if all(answers(each) for each in (port, rest_port)):
                    break
                time.sleep(0.2)
            target = f"localhost:{port}"
            # Metrics belong to TensorFlow Serving.
            path = "v1/models/ner" if server_options else "monitoring/prometheus/metrics"
            with urllib.request.urlopen(f"http://localhost:{rest_port}/{path}", timeout=60) as answer:
                assert answer.status == 200
            tagged = fusion_ner("tag", "--target", target, "昨天，王晓明在北京😀。", "", timeout=120)
            scored = fusion_ner(
                "score", "--gold", run.folder / "test.jsonl", "--format", "json_lines", "--target", target, timeout=120
            )
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
    assert tagged.returncode == 0, tagged.stderr
    tagged_texts = [json.loads(line) for line in tagged.stdout.splitlines()]
    assert [each["text"] for each in tagged_texts] == ["昨天，王晓明在北京😀。", ""]
    for each in tagged_texts:
        for entity in each["entities"]:
            assert entity["text"] == each["text"][entity["start"] : entity["end"]]
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["strict"] == run.metrics["test"]["strict"]


def test_a_second_run_takes_what_has_not_changed_and_a_failed_gate_keeps_the_served_version(run):
    before = run.versions
    seconds = run.metrics["seconds"]
    process = fusion_ner("run", "--config", write_configuration(run.folder, minimum_f1=1))
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("unchanged") >= COMPONENTS.index("Evaluator")
    assert "not blessed" in process.stderr
    assert "the gate asks for 1.0000" in process.stderr
    metrics = run.metrics
    assert metrics["blessed"] is False
    assert metrics["model"] is None
    assert metrics["seconds"]["Trainer"] < seconds["Trainer"]
    assert run.versions == before

    # Back to the first configuration: the newest version is this model already.
    process = fusion_ner("run", "--config", run.configuration)
    assert process.returncode == 0, process.stderr
    assert run.metrics["blessed"] is True
    assert run.versions == before


def test_a_broken_corpus_stops_the_run_with_the_readers_sentence(run, tmp_path):
    (tmp_path / "train.jsonl").write_text(
        '{"text": "北京", "entities": [{"start": 0, "end": 9, "type": "LOC"}]}\n', encoding="utf-8"
    )
    process = fusion_ner(
        "run", "--config", run.configuration, "--train", tmp_path / "train.jsonl", "--output", tmp_path / "out"
    )
    assert process.returncode == 1
    assert "train.jsonl:1" in process.stderr
    assert "leaves the text" in process.stderr or "outside the text" in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["--train", "nowhere.conll"], "data.train: there is no file", id="missing file"),
        pytest.param(["--epochs", "0"], "epochs: expected a positive number", id="impossible value"),
        pytest.param(["--fusion", "deep"], "trainer.fusion: expected one of", id="unknown fusion"),
        pytest.param(["--encoder", "nowhere"], "trainer.encoder: expected an existing folder", id="missing encoder"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(run, tmp_path, words, message):
    output = tmp_path / "out"
    process = fusion_ner("run", "--config", run.configuration, "--output", output, *words, timeout=120)
    assert process.returncode == 2
    assert message in process.stderr
    assert not (output / "run.log").exists()


def test_two_runs_in_one_folder_are_refused(run):
    import fcntl

    with (run.folder / "out" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = fusion_ner("run", "--config", run.configuration, timeout=120)
    assert process.returncode == 1
    assert "another run works in" in process.stderr


def test_training_that_was_killed_resumes(run, tmp_path):
    words = [
        "run",
        "--config",
        run.configuration,
        "--output",
        tmp_path / "out",
        "--epochs",
        "60",
        "--batch-tokens",
        "256",
    ]
    command = [sys.executable, "-m", "pipeline.command_line", *map(str, words)]
    environment = {**os.environ, "COLUMNS": "200"}
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stderr:
            if "epoch 3/60:" in line:
                process.send_signal(signal.SIGKILL)
                break
    resumed = fusion_ner(*words)
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch 1/60:" not in resumed.stderr
    assert "epoch 60/60:" in resumed.stderr
    assert (tmp_path / "out" / "metrics.json").is_file()
