"""The pusher as TFX runs it: blessings decide, and the artifact says what happened."""

from __future__ import annotations

import pytest
from tfx import types
from tfx.types import standard_artifacts

from components.pusher.component import VersionPusher
from components.pusher.executor import Executor
from components.pusher.model_card import read_card
from components.pusher.publish import model_digest, publish
from components.pusher.results import PushResultError, read_outcome
from components.pusher.rollback import rollback
from components.pusher.settings import PusherSettings
from components.pusher.versions import list_versions, version_folders
from components.settings import SettingsError
from tests.pusher.test_publish import make_model


def blessing(artifact_type, blessed: bool, message: str = ""):
    artifact = artifact_type()
    artifact.uri = "artifacts/blessing"
    artifact.set_int_custom_property("blessed", int(blessed))
    if message:
        artifact.set_string_custom_property("blessing_message", message)
    return artifact


def push(tmp_path, **blessings):
    make_model(tmp_path / "trainer" / "Format-Serving")
    return push_made(tmp_path, **blessings)


def push_made(tmp_path, **blessings):
    model, pushed_model = standard_artifacts.Model(), standard_artifacts.PushedModel()
    model.uri, pushed_model.uri = str(tmp_path / "trainer"), str(tmp_path / "pushed")
    component = VersionPusher(
        model=types.Channel(standard_artifacts.Model),
        model_blessing=types.Channel(standard_artifacts.ModelBlessing),
        infra_blessing=types.Channel(standard_artifacts.InfraBlessing),
        serving_directory=str(tmp_path / "serving" / "ner"),
        settings=PusherSettings(keep_versions=1),
    )
    inputs = {"model": [model], **{name: [each] for name, each in blessings.items()}}
    Executor().Do(inputs, {"pushed_model": [pushed_model]}, component.spec.exec_properties)
    return pushed_model


def test_a_model_with_all_blessings_is_pushed(tmp_path):
    pushed = push(
        tmp_path,
        model_blessing=blessing(standard_artifacts.ModelBlessing, True),
        infra_blessing=blessing(standard_artifacts.InfraBlessing, True),
    )

    (version,) = list_versions(tmp_path / "serving" / "ner")
    destination = str(tmp_path / "serving" / "ner" / str(version))
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_version") == str(version)
    assert pushed.get_string_custom_property("pushed_destination") == destination
    outcome = read_outcome(pushed.uri)
    assert (outcome.pushed, outcome.version, outcome.destination, outcome.refusals) == (True, version, destination, ())


def test_the_infra_blessing_is_optional(tmp_path):
    push(tmp_path, model_blessing=blessing(standard_artifacts.ModelBlessing, True))

    assert len(list_versions(tmp_path / "serving" / "ner")) == 1


@pytest.mark.parametrize(
    ("model_blessed", "infra_blessed", "refusals"),
    [
        pytest.param(False, True, ["the evaluation did not bless the model: f1 is low"], id="bad model"),
        pytest.param(True, False, ["the infra validation did not bless the model: no answer"], id="bad server"),
        pytest.param(
            False,
            False,
            [
                "the evaluation did not bless the model: f1 is low",
                "the infra validation did not bless the model: no answer",
            ],
            id="both",
        ),
    ],
)
def test_a_refused_model_is_not_pushed_and_the_reason_is_kept(tmp_path, model_blessed, infra_blessed, refusals):
    pushed = push(
        tmp_path,
        model_blessing=blessing(standard_artifacts.ModelBlessing, model_blessed, "f1 is low"),
        infra_blessing=blessing(standard_artifacts.InfraBlessing, infra_blessed, "no answer"),
    )

    assert not (tmp_path / "serving").exists()
    assert pushed.get_int_custom_property("pushed") == 0
    assert list(read_outcome(pushed.uri).refusals) == refusals
    assert not read_outcome(pushed.uri).pushed


def test_a_verdict_that_was_never_made_does_not_bless(tmp_path):
    undecided = standard_artifacts.ModelBlessing()
    undecided.uri = "artifacts/blessing"

    pushed = push(tmp_path, model_blessing=undecided)

    assert read_outcome(pushed.uri).refusals == ("the evaluation did not bless the model: see artifacts/blessing",)


def test_a_version_that_a_rollback_took_back_is_not_pushed_again(tmp_path):
    directory = tmp_path / "serving" / "ner"
    before = publish(make_model(tmp_path / "before"), directory).version
    model = make_model(tmp_path / "trainer" / "Format-Serving")
    bad = publish(model, directory).version
    restored = rollback(directory).pushed.version

    pushed = push_made(tmp_path, model_blessing=blessing(standard_artifacts.ModelBlessing, True))

    assert list_versions(directory) == (before, bad, restored)
    assert read_outcome(pushed.uri).refusals == (
        f"the model is version {bad}, which a rollback took back; to serve it all the same: "
        f"fusion-ner rollback {directory} --to {bad}",
    )


def test_a_pushed_version_has_a_card(tmp_path):
    push(tmp_path, model_blessing=blessing(standard_artifacts.ModelBlessing, True))

    (folder,) = version_folders(tmp_path / "serving" / "ner").values()
    card = read_card(folder)
    assert (card.name, card.version, card.digest) == ("ner", int(folder.name), model_digest(folder))


def test_an_artifact_without_outcome_is_an_error(tmp_path):
    with pytest.raises(PushResultError, match=str(tmp_path)):
        read_outcome(str(tmp_path))


def test_impossible_settings_are_refused():
    with pytest.raises(SettingsError, match="keep_versions: expected a number from 1 on"):
        PusherSettings(keep_versions=0)
    with pytest.raises(ValueError, match="atomic rename"):
        VersionPusher(
            model=types.Channel(standard_artifacts.Model),
            model_blessing=types.Channel(standard_artifacts.ModelBlessing),
            serving_directory="gs://bucket/serving",
        )
