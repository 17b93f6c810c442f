"""The infra validation with servers that serve, end, hang and answer otherwise."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from tfx import types
from tfx.types import standard_artifacts

from components.features import EXAMPLES_SIGNATURE, EXPLAIN_SIGNATURE, SERVING_SIGNATURE, TOKENS_SIGNATURE
from components.infra_validator import validation as validation_module
from components.infra_validator.component import ServingInfraValidator
from components.infra_validator.executor import Executor, InfraValidationError
from components.infra_validator.probes import make_probes, read_examples
from components.infra_validator.settings import InfraValidatorSettings
from components.infra_validator.validation import validate
from components.settings import SettingsError
from components.trainer.warm_up import write_warm_up
from serving.model_server import PROGRAM_VARIABLE, ModelServer, ServerProgram, find_model_server
from tests.evaluator.fake_model import serialized_example, write_split
from tests.infra_validator.fake_servable import export_servable

REPOSITORY = pathlib.Path(__file__).parents[2]
EXAMPLES = [serialized_example(index, [], []) for index in range(5)]
EMBEDDED = InfraValidatorSettings(server="embedded", texts=5, batch_sizes=(1, 3))


@pytest.fixture(scope="module")
def servable(tmp_path_factory) -> pathlib.Path:
    return export_servable(tmp_path_factory.mktemp("trainer") / "Format-Serving")


def run_component(folder: pathlib.Path, model: pathlib.Path, settings: InfraValidatorSettings, texts: int):
    write_split(folder / "examples" / "Split-dev", [([], [])] * texts)
    artifacts = {
        "model": standard_artifacts.Model(),
        "examples": standard_artifacts.Examples(),
        "blessing": standard_artifacts.InfraBlessing(),
    }
    artifacts["model"].uri = str(model.parent)
    artifacts["examples"].uri, artifacts["examples"].split_names = str(folder / "examples"), '["train", "dev"]'
    artifacts["blessing"].uri = str(folder / "blessing")
    component = ServingInfraValidator(
        model=types.Channel(standard_artifacts.Model),
        examples=types.Channel(standard_artifacts.Examples),
        model_name="ner",
        settings=settings,
    )
    inputs = {"model": [artifacts["model"]], "examples": [artifacts["examples"]]}
    Executor().Do(inputs, {"blessing": [artifacts["blessing"]]}, component.spec.exec_properties)
    return artifacts["blessing"]


def test_a_model_that_is_served_as_it_is_gets_blessed(tmp_path, servable):
    blessing = run_component(tmp_path, servable, EMBEDDED, texts=7)

    assert blessing.get_int_custom_property("blessed") == 1
    assert (tmp_path / "blessing" / "INFRA_BLESSED").exists()
    report = json.loads((tmp_path / "blessing" / "infra_validation.json").read_text(encoding="utf-8"))
    # The empty text, 5 requests of 1 text, 3 + 2 texts, and one request to each of the other signatures.
    assert report["requests"] == 1 + 5 + 2 + 3
    assert report["refusals"] == []
    assert [latency["texts"] for latency in report["latencies"]] == [1, 2, 3]
    assert all(0 < each["median_milliseconds"] <= each["longest_milliseconds"] for each in report["latencies"])


@pytest.mark.tfserving
@pytest.mark.skipif(find_model_server().is_embedded, reason="no tensorflow_model_server was found")
def test_tensorflow_model_server_answers_as_the_model(servable):
    settings = InfraValidatorSettings(server="tensorflow_model_server", texts=5)

    assert validate(servable, EXAMPLES, settings, "ner").refusals == ()


def test_a_server_that_answers_otherwise_is_refused(tmp_path):
    model = export_servable(tmp_path / "trainer" / "Format-Serving", random_scores=True)

    blessing = run_component(tmp_path, model, EMBEDDED, texts=5)

    assert blessing.get_int_custom_property("blessed") == 0
    assert (tmp_path / "blessing" / "INFRA_NOT_BLESSED").exists()
    message = blessing.get_string_custom_property("blessing_message")
    assert "the embedded server answers serving_default with 1 text otherwise: entity_score[0][0]" in message


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        pytest.param("import sys; sys.exit('no such op')", "ended with status 1", id="ends"),
        pytest.param("import time; time.sleep(60)", "does not serve 'ner' after", id="hangs"),
    ],
)
def test_a_server_that_does_not_serve_is_refused_in_time(servable, monkeypatch, program, reason):
    stub = ServerProgram("the stub", (sys.executable, "-c", program))
    monkeypatch.setattr(validation_module, "_program", lambda settings: stub)
    start = time.monotonic()

    outcome = validate(servable, EXAMPLES, InfraValidatorSettings(load_seconds=3.0), "ner")

    assert not outcome.blessed
    assert reason in outcome.refusals[0]
    assert time.monotonic() - start < 30


def test_a_server_that_ends_while_it_is_asked_is_noticed(servable, monkeypatch):
    servers = []
    wait_until_available = ModelServer.wait_until_available

    def remember(server, timeout):
        servers.append(server)
        return wait_until_available(server, timeout)

    def kill(*_):
        servers[0].process.kill()

    monkeypatch.setattr(ModelServer, "wait_until_available", remember)
    monkeypatch.setattr(validation_module, "difference", kill)
    settings = InfraValidatorSettings(server="embedded", request_seconds=300.0)

    outcome = validate(servable, EXAMPLES, settings, "ner")

    assert outcome.refusals == ("ModelServerError: the embedded server ended with status -9 while it was asked",)


def test_a_server_does_not_outlive_a_killed_run(tmp_path):
    """Who is killed cannot clean up, so the kernel does."""
    (tmp_path / "ner" / "1").mkdir(parents=True)
    run = (
        "import sys, time, pathlib; from serving.model_server import ServerProgram, start_model_server\n"
        "program = ServerProgram('the stub', (sys.executable, '-c', 'import time; time.sleep(600)'))\n"
        "with start_model_server(pathlib.Path(sys.argv[1]), 'ner', program=program) as server:\n"
        "    time.sleep(0.5); print(server.process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", run, str(tmp_path / "ner")],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        server = pathlib.Path("/proc") / process.stdout.readline().strip()
        assert "sleep" in (server / "cmdline").read_text()
        process.kill()
    deadline = time.monotonic() + 10
    while _runs(server) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert not _runs(server)


def _runs(process: pathlib.Path) -> bool:
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_model_without_the_serving_signature_is_refused(tmp_path):
    model = export_servable(tmp_path / "model", only=TOKENS_SIGNATURE)

    assert validate(model, EXAMPLES, EMBEDDED, "ner").refusals == ("the model has no signature serving_default",)


def test_a_missing_server_is_a_reason(servable, monkeypatch):
    monkeypatch.delenv(PROGRAM_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "")

    outcome = validate(servable, EXAMPLES, InfraValidatorSettings(server="tensorflow_model_server"), "ner")

    assert "tensorflow_model_server was not found" in outcome.refusals[0]


def test_a_slow_model_is_refused():
    latencies = (validation_module.Latency(1, 5, 20.0, 50.0), validation_module.Latency(16, 5, 90.0, 95.0))

    assert validation_module._too_slow(latencies, InfraValidatorSettings(maximum_milliseconds=25)) == ()
    assert validation_module._too_slow(latencies, InfraValidatorSettings(maximum_milliseconds=10)) == (
        "the median request with one text takes 20.0 ms, the bound is 10 ms",
    )


def test_an_empty_split_is_an_error(tmp_path, servable):
    with pytest.raises(InfraValidationError, match="the split dev has no sentence"):
        run_component(tmp_path, servable, EMBEDDED, texts=0)


def test_probes_cover_every_signature_and_batch_size():
    probes = make_probes(EXAMPLES, (1, 4), [EXAMPLES_SIGNATURE, EXPLAIN_SIGNATURE, SERVING_SIGNATURE, TOKENS_SIGNATURE])

    assert [str(probe) for probe in probes] == [
        *["serving_default with 1 text"] * 6,
        "serving_default with 4 texts",
        "serving_default with 1 text",
        "explain with 4 texts",
        "examples with 4 texts",
        "tokens",
    ]
    assert [list(probe.inputs["text"]) for probe in probes[:2]] == [[b""], ["某甲在北京。".encode()]]


def test_sentences_are_repeated_until_the_largest_batch_is_full():
    probes = make_probes(EXAMPLES, (8,), [EXAMPLES_SIGNATURE, EXPLAIN_SIGNATURE, SERVING_SIGNATURE])

    assert [str(probe) for probe in probes] == [
        "serving_default with 1 text",
        "serving_default with 8 texts",
        "explain with 8 texts",
        "examples with 8 texts",
    ]


@pytest.mark.parametrize(
    ("deployment", "texts", "refused"),
    [
        pytest.param("cpu", 64, False, id="fits the processor's batching"),
        pytest.param("cpu", 65, True, id="too large for the processor's batching"),
        pytest.param("gpu", 128, False, id="fits the GPU's batching"),
        pytest.param("gpu", 129, True, id="too large for the GPU's batching"),
    ],
)
def test_warm_up_requests_must_fit_the_batching_of_the_deployment(tmp_path, deployment, texts, refused):
    request = predict_pb2.PredictRequest()
    request.inputs["text"].CopyFrom(tf.make_tensor_proto(["a"] * texts))
    write_warm_up(tmp_path, [request])

    outcome = validation_module._too_large_warm_up(tmp_path, InfraValidatorSettings(deployment=deployment))

    assert (outcome is not None) == refused
    if outcome is not None:
        assert f"a warm-up request has {texts} texts, and batching_{deployment}.pbtxt allows" in outcome


def test_a_model_whose_warm_up_is_too_large_is_refused_before_a_server_starts(tmp_path, servable):
    model = shutil.copytree(servable, tmp_path / "model")
    request = predict_pb2.PredictRequest()
    request.inputs["text"].CopyFrom(tf.make_tensor_proto(["a"] * 100))
    write_warm_up(model, [request])

    outcome = validate(model, EXAMPLES, EMBEDDED, "ner")

    assert not outcome.blessed
    assert "trainer.serving_warm_up.batch_sizes to at most 64" in outcome.refusals[0]


def test_examples_are_read_up_to_a_count(tmp_path):
    write_split(tmp_path / "Split-dev", [([], [])] * 5)

    assert read_examples(str(tmp_path / "Split-dev"), 3) == EXAMPLES[:3]
    assert read_examples(str(tmp_path / "missing"), 3) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"server": "docker"}, "server: expected one of auto"),
        ({"batch_sizes": ()}, "batch_sizes: expected positive numbers"),
        ({"batch_sizes": (0,)}, "batch_sizes: expected positive numbers"),
        ({"deployment": "tpu"}, "deployment: expected cpu or gpu"),
        ({"texts": 0}, "texts: expected a positive number"),
        ({"tolerance": 1.0}, "tolerance"),
        ({"load_seconds": 0.0}, "load_seconds"),
        ({"maximum_milliseconds": 0.0}, "maximum_milliseconds"),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(SettingsError, match=message):
        InfraValidatorSettings(**values)
