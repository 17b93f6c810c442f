"""The Evaluator as TFX runs it, on an exported model: its numbers are those of the pure core, its gates decide."""

from __future__ import annotations

import pathlib
import time

import pytest
from tfx import types
from tfx.types import standard_artifacts

from components.annotated_text import Entity
from components.evaluator.calibration import Bin
from components.evaluator.component import Evaluator
from components.evaluator.entity_scores import StrictReport, count_entities
from components.evaluator.executor import Executor
from components.evaluator.results import (
    EvaluationError,
    GateFailure,
    count_examples,
    read_blessing,
    read_calibration,
    read_report,
)
from components.evaluator.settings import EvaluatorSettings
from tests.evaluator.fake_model import export_model, write_split

BEIJING, MOU, BANK = Entity(3, 5, "LOC"), Entity(0, 2, "PER"), Entity(3, 6, "ORG")

# micro: 4 true positives, 7 predicted, 6 gold. LOC 3/4 of 4, PER 1/2 of 2, ORG 0/1 of 0.
TEXTS = [
    ([BEIJING, MOU], [BEIJING, MOU]),
    ([BEIJING, MOU], [BEIJING]),
    ([], []),
    ([BEIJING], [BANK]),
    ([BEIJING], [BEIJING, Entity(0, 1, "PER")]),
    ([], [Entity(1, 3, "LOC")]),
]
EXPECTED = sum((count_entities(gold, predicted) for gold, predicted in TEXTS), StrictReport())


class Run:
    """One run of the Evaluator over `texts`, in `folder`."""

    def __init__(
        self,
        folder: pathlib.Path,
        model: pathlib.Path,
        settings: EvaluatorSettings,
        texts=TEXTS,
        baseline: pathlib.Path | None = None,
    ):
        write_split(folder / "examples" / "Split-test", texts)
        examples = standard_artifacts.Examples()
        examples.uri, examples.split_names = str(folder / "examples"), '["train", "dev", "test"]'
        inputs = {"examples": [examples], "model": [_model(model)]}
        if settings.maximum_f1_drop is not None:
            inputs["baseline_model"] = [_model(baseline)] if baseline else []
        self.evaluation, self.blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
        self.evaluation.uri, self.blessing.uri = str(folder / "evaluation"), str(folder / "blessing")
        component = Evaluator(
            examples=types.Channel(standard_artifacts.Examples),
            model=types.Channel(standard_artifacts.Model),
            baseline_model=types.Channel(standard_artifacts.Model) if settings.maximum_f1_drop is not None else None,
            settings=settings,
        )
        start = time.monotonic()
        Executor().Do(
            inputs, {"evaluation": [self.evaluation], "blessing": [self.blessing]}, component.spec.exec_properties
        )
        self.seconds = time.monotonic() - start

    def read_blessing(self):
        return read_blessing(self.blessing.uri, self.evaluation.uri)


def _model(folder: pathlib.Path):
    artifact = standard_artifacts.Model()
    artifact.uri = str(folder.parent)
    return artifact


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> pathlib.Path:
    return export_model(tmp_path_factory.mktemp("trainer") / "Format-Serving")


def test_numbers_are_those_of_the_pure_core(tmp_path, model):
    run = Run(tmp_path, model, EvaluatorSettings(minimum_f1=0.5, minimum_f1_per_type={"LOC": 0.75, "PER": 0.5}))

    assert read_report(run.evaluation.uri, expected_texts=len(TEXTS)) == EXPECTED
    assert (EXPECTED.micro.true_positive, EXPECTED.micro.predicted, EXPECTED.micro.gold) == (4, 7, 6)
    # 7 entities with the score 0.75, 4 of them right.
    calibration = read_calibration(run.evaluation.uri)
    assert calibration.bins[11] == Bin(7, 4, 7 * 0.75)
    assert calibration.expected_calibration_error == pytest.approx(0.75 - 4 / 7)
    assert run.read_blessing().blessed
    assert run.blessing.get_int_custom_property("blessed") == 1


def test_gates_refuse_and_say_why(tmp_path, model):
    settings = EvaluatorSettings(
        minimum_f1=0.61,
        minimum_precision=0.5,
        minimum_recall=0.9,
        minimum_f1_per_type={"LOC": 0.75, "PER": 0.6, "TIME": 0.1},
    )

    run = Run(tmp_path, model, settings)

    assert run.blessing.get_int_custom_property("blessed") == 0
    assert sorted(run.read_blessing().failures, key=lambda failure: failure.metric) == [
        GateFailure("f1/PER", 0.5, 0.6),
        GateFailure("f1/TIME", 0.0, 0.1),
        GateFailure("recall", pytest.approx(4 / 6), 0.9),
    ]
    message = run.blessing.get_string_custom_property("blessing_message")
    assert "f1/TIME is 0.0000, the gate asks for 0.1000 at least" in message
    assert read_report(run.evaluation.uri) == EXPECTED


@pytest.mark.parametrize(
    "with_baseline", [pytest.param(True, id="with a baseline"), pytest.param(False, id="the first model")]
)
def test_a_model_as_good_as_its_baseline_passes(tmp_path, model, with_baseline):
    settings = EvaluatorSettings(minimum_f1=0.5, maximum_f1_drop=0.0)

    run = Run(tmp_path, model, settings, baseline=model if with_baseline else None)

    assert run.read_blessing().blessed
    assert read_report(run.evaluation.uri) == EXPECTED


def test_a_baseline_without_scores_is_no_hindrance(tmp_path, model):
    old = export_model(tmp_path / "old" / "Format-Serving", scores=False)

    run = Run(tmp_path, model, EvaluatorSettings(minimum_f1=0.5, maximum_f1_drop=0.0), baseline=old)

    assert run.read_blessing().blessed
    assert read_calibration(run.evaluation.uri).predicted == 7


def test_a_model_worse_than_its_baseline_is_refused(tmp_path, model):
    mute = export_model(tmp_path / "mute" / "Format-Serving", mute=True)

    run = Run(tmp_path, mute, EvaluatorSettings(minimum_f1=0.0, maximum_f1_drop=0.5), baseline=model)

    (failure,) = run.read_blessing().failures
    assert failure == GateFailure("f1", pytest.approx(-8 / 13), -0.5, is_change=True)
    assert str(failure) == "the change of f1 against the baseline is -0.6154, the gate asks for -0.5000 at least"
    assert read_report(run.evaluation.uri).micro.predicted == 0


def test_three_hundred_texts_take_seconds(tmp_path, model):
    run = Run(tmp_path, model, EvaluatorSettings(), texts=TEXTS * 50)

    assert read_report(run.evaluation.uri, expected_texts=300).micro.gold == 300
    assert run.seconds < 30  # A bound against a runaway on a busy machine; 2 to 4 s are usual.


def test_an_evaluation_of_fewer_texts_is_refused(tmp_path, model):
    run = Run(tmp_path, model, EvaluatorSettings())

    with pytest.raises(EvaluationError, match="6 texts were evaluated, the split has 7"):
        read_report(run.evaluation.uri, expected_texts=7)


def test_an_empty_split_is_refused(tmp_path, model):
    with pytest.raises(EvaluationError, match="the split test has no example"):
        Run(tmp_path, model, EvaluatorSettings(), texts=[])


def test_examples_are_counted(tmp_path):
    write_split(tmp_path / "Split-test", TEXTS)

    assert count_examples(str(tmp_path / "Split-test")) == len(TEXTS)


@pytest.mark.parametrize("read", [read_report, lambda folder: read_blessing(folder, folder)])
def test_a_folder_without_results_is_refused(tmp_path, read):
    with pytest.raises(EvaluationError, match=str(tmp_path)):
        read(str(tmp_path))


def test_a_baseline_needs_a_gate_and_a_gate_a_baseline():
    channels = {
        "examples": types.Channel(standard_artifacts.Examples),
        "model": types.Channel(standard_artifacts.Model),
    }

    with pytest.raises(ValueError, match="needs both"):
        Evaluator(**channels, settings=EvaluatorSettings(maximum_f1_drop=0.1))
    with pytest.raises(ValueError, match="needs both"):
        Evaluator(**channels, settings=EvaluatorSettings(), baseline_model=types.Channel(standard_artifacts.Model))
