"""Tests of uploading, running and scheduling against the fake API."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeflow import schedule
from kubeflow.acceptance import AcceptanceError, read_pipeline
from kubeflow.api import SERVICE_ACCOUNT_TOKEN_VARIABLE, Api, ApiError, Connection, ServerUnreachableError
from kubeflow.api import in_cluster_connection as in_cluster
from kubeflow.cron import understand
from kubeflow.schedule import RunSettings, ScheduleError, ScheduleSettings, Version
from tests.kubeflow.fake_api import FakeApi, FakeServer, self_signed_certificate

ROOT = "s3://bucket/ner"
SETTINGS = RunSettings(pipeline_root=ROOT)
WEEKLY = ScheduleSettings(name="weekly", schedule=understand("0 3 * * 1"))


@pytest.fixture
def fake() -> FakeApi:
    return FakeApi()


@pytest.fixture
def api(fake: FakeApi) -> Iterator[Api]:
    with FakeServer(fake) as server:
        yield Api(Connection(server.host, deadline=5.0))


@pytest.fixture
def pipeline(tmp_path: Path, pipeline_document: dict[str, Any]) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(pipeline_document), encoding="utf-8")
    return path


def _change(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["sdkVersion"] += ".1"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


def test_upload_is_idempotent_by_content(api: Api, fake: FakeApi, pipeline: Path) -> None:
    first = schedule.upload(api, pipeline)
    again = schedule.upload(api, pipeline)
    assert first.created
    assert again == dataclasses.replace(first, created=False)
    _change(pipeline)
    other = schedule.upload(api, pipeline)
    assert other.created
    assert other.pipeline_id == first.pipeline_id
    assert other.version_id != first.version_id
    assert [item["display_name"] for item in fake.pipelines] == ["tiny-ner"]
    assert len(fake.versions) == 2


def test_upload_finds_a_version_on_a_later_page(api: Api, fake: FakeApi, pipeline: Path) -> None:
    first = schedule.upload(api, pipeline)
    text = pipeline.read_text(encoding="utf-8")
    for _ in range(4):
        _change(pipeline)
        schedule.upload(api, pipeline)
    pipeline.write_text(text, encoding="utf-8")
    assert schedule.upload(api, pipeline).version_id == first.version_id
    assert len(fake.versions) == 5


def test_upload_recognises_a_file_by_its_default_name(api: Api, fake: FakeApi, pipeline: Path) -> None:
    schedule.upload(api, pipeline)
    _change(pipeline)
    changed = schedule.upload(api, pipeline)
    for version in fake.versions:
        del version["description"]
    assert schedule.upload(api, pipeline) == dataclasses.replace(changed, created=False)


def test_a_version_name_is_not_given_twice(api: Api, pipeline: Path) -> None:
    schedule.upload(api, pipeline)
    _change(pipeline)
    schedule.upload(api, pipeline, version_name="v2")
    _change(pipeline)
    with pytest.raises(ScheduleError, match="'v2' of pipeline 'tiny-ner' exists with other content"):
        schedule.upload(api, pipeline, version_name="v2")


def test_what_the_backend_would_not_run_is_not_uploaded(
    api: Api, fake: FakeApi, pipeline: Path, pipeline_document: dict[str, Any]
) -> None:
    pipeline_document["deploymentSpec"]["executors"]["Trainer_executor"] = {"resolver": {}}
    pipeline.write_text(yaml.safe_dump(pipeline_document), encoding="utf-8")
    with pytest.raises(AcceptanceError, match="resolvers are not implemented"):
        schedule.upload(api, pipeline)
    assert fake.requests == []


def test_run_once(api: Api, fake: FakeApi, pipeline: Path) -> None:
    version = schedule.upload(api, pipeline)
    settings = dataclasses.replace(SETTINGS, parameters={"data": "/corpus"}, experiment="ner")
    outcome = schedule.run_once(api, version, settings, name="first")
    assert outcome.change == "created"
    (run,) = fake.runs
    assert run["runtime_config"] == {"parameters": {"data": "/corpus"}, "pipeline_root": ROOT}
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version.version_id
    assert [item["display_name"] for item in fake.experiments] == ["ner"]
    assert schedule.run_once(api, version, settings, name="first") == schedule.Outcome(
        run["run_id"], "first", "unchanged"
    )
    schedule.run_once(api, version, settings)
    assert len(fake.runs) == 2


def test_schedule_is_idempotent_by_name(api: Api, fake: FakeApi, pipeline: Path) -> None:
    version = schedule.upload(api, pipeline)
    first = schedule.schedule(api, version, SETTINGS, WEEKLY)
    (recurring,) = fake.recurring_runs
    assert recurring["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * 1"}}
    assert recurring["runtime_config"]["pipeline_root"] == ROOT
    assert recurring["no_catchup"] is True
    again = schedule.schedule(api, version, SETTINGS, WEEKLY)
    assert (first.change, again.change, again.identifier) == ("created", "unchanged", first.identifier)

    changed = schedule.schedule(api, version, SETTINGS, dataclasses.replace(WEEKLY, concurrency=2, catch_up=True))
    assert changed.change == "replaced"
    (recurring,) = fake.recurring_runs
    assert recurring["recurring_run_id"] == changed.identifier
    assert (recurring["max_concurrency"], recurring["no_catchup"]) == ("2", False)
    same = schedule.schedule(api, version, SETTINGS, dataclasses.replace(WEEKLY, concurrency=2, catch_up=True))
    assert same.change == "unchanged"


def test_a_paused_schedule_stays_paused_when_it_is_replaced(api: Api, fake: FakeApi, pipeline: Path) -> None:
    version = schedule.upload(api, pipeline)
    schedule.schedule(api, version, SETTINGS, WEEKLY)
    schedule.set_paused(api, "weekly", paused=True)
    schedule.schedule(api, version, SETTINGS, dataclasses.replace(WEEKLY, schedule=understand("@daily")))
    assert [run["status"] for run in fake.recurring_runs] == ["DISABLED"]


def test_a_server_that_fills_in_the_beginning_of_time(api: Api, fake: FakeApi, pipeline: Path) -> None:
    version = schedule.upload(api, pipeline)
    schedule.schedule(api, version, SETTINGS, WEEKLY)
    fake.recurring_runs[0]["trigger"]["cron_schedule"]["start_time"] = "1970-01-01T00:00:00Z"
    assert schedule.schedule(api, version, SETTINGS, WEEKLY).change == "unchanged"


def test_a_schedule_left_over_by_a_failure_is_removed(api: Api, fake: FakeApi, pipeline: Path) -> None:
    version = schedule.upload(api, pipeline)
    schedule.schedule(api, version, SETTINGS, WEEKLY)
    fake.recurring_runs.append({**fake.recurring_runs[0], "recurring_run_id": "left-over"})
    schedule.schedule(api, version, SETTINGS, WEEKLY)
    assert [run["recurring_run_id"] for run in fake.recurring_runs] != ["left-over"]
    assert len(fake.recurring_runs) == 1


def test_pause_resume_delete(api: Api, fake: FakeApi, pipeline: Path) -> None:
    version = schedule.upload(api, pipeline)
    schedule.schedule(api, version, SETTINGS, WEEKLY)
    assert schedule.set_paused(api, "weekly", paused=True).change == "paused"
    assert schedule.set_paused(api, "weekly", paused=True).change == "unchanged"
    assert fake.recurring_runs[0]["status"] == "DISABLED"
    assert schedule.set_paused(api, "weekly", paused=False).change == "resumed"
    assert fake.recurring_runs[0]["status"] == "ENABLED"
    assert schedule.delete_schedule(api, fake.recurring_runs[0]["recurring_run_id"]).change == "deleted"
    assert schedule.recurring_runs(api) == []
    with pytest.raises(ScheduleError, match="no schedule named 'weekly'; there are: none"):
        schedule.delete_schedule(api, "weekly")


def test_start_and_end_are_sent_in_utc(api: Api, fake: FakeApi, pipeline: Path) -> None:
    version = schedule.upload(api, pipeline)
    when = dataclasses.replace(WEEKLY, start="2026-12-01T08:00:00+08:00", end="2027-01-01")
    schedule.schedule(api, version, SETTINGS, when)
    assert fake.recurring_runs[0]["trigger"]["cron_schedule"] == {
        "cron": "0 0 3 * * 1",
        "start_time": "2026-12-01T00:00:00Z",
        "end_time": "2027-01-01T00:00:00Z",
    }
    assert schedule.schedule(api, version, SETTINGS, when).change == "unchanged"


def test_empty_lists_are_empty(api: Api) -> None:
    assert schedule.recurring_runs(api) == []
    assert schedule.runs(api) == []


@pytest.mark.parametrize(
    ("version", "status", "message"),
    [pytest.param(Version("pipeline-1", "version-9", "v", True), 500, "version-9 not found", id="unknown version")],
)
def test_errors_of_the_server(api: Api, version: Version, status: int, message: str) -> None:
    with pytest.raises(ApiError, match=message) as raised:
        schedule.run_once(api, version, SETTINGS)
    assert raised.value.status == status


def test_an_unknown_experiment_is_named_with_a_hint(api: Api, pipeline: Path) -> None:
    version = schedule.upload(api, pipeline)
    reference = {"pipeline_id": version.pipeline_id, "pipeline_version_id": version.version_id}
    with pytest.raises(ApiError, match=r"404: Experiment gone not found \(it does not exist"):
        api.post("/runs", {"experiment_id": "gone", "pipeline_version_reference": reference})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: RunSettings(pipeline_root="/data"), "no gs://, s3://, minio:// URI", id="local root"),
        pytest.param(lambda: dataclasses.replace(WEEKLY, concurrency=0), "1 to 10", id="no concurrency"),
        pytest.param(lambda: dataclasses.replace(WEEKLY, concurrency=11), "1 to 10", id="too much concurrency"),
        pytest.param(lambda: dataclasses.replace(WEEKLY, name=" "), "needs a name", id="no name"),
        pytest.param(lambda: dataclasses.replace(WEEKLY, start="soon"), "no time like", id="no time"),
        pytest.param(
            lambda: dataclasses.replace(WEEKLY, start="2026-02-01", end="2026-01-01"),
            "before it starts",
            id="end first",
        ),
    ],
)
def test_settings_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        make()


def test_parameters_are_typed(pipeline: Path, pipeline_document: dict[str, Any]) -> None:
    parameters = pipeline_document["root"]["inputDefinitions"]["parameters"]
    parameters["epochs"] = {"parameterType": "NUMBER_INTEGER", "defaultValue": 3}
    parameters["learning_rate"] = {"parameterType": "NUMBER_DOUBLE", "defaultValue": 1e-3}
    parameters["push"] = {"parameterType": "BOOLEAN", "defaultValue": True}
    pipeline.write_text(yaml.safe_dump(pipeline_document), encoding="utf-8")
    compiled = read_pipeline(pipeline)
    texts = ["data=/a=b", "epochs=5", "learning_rate=1e-4", "push=false"]
    assert schedule.parse_parameters(compiled, texts) == {
        "data": "/a=b",
        "epochs": 5,
        "learning_rate": 1e-4,
        "push": False,
    }
    for text, message in [
        ("epoch=3", "one of the names: data, epochs, learning_rate, push"),
        ("epochs", "NAME=VALUE"),
        ("epochs=3.5", "no number integer"),
        ("learning_rate=fast", "no number double"),
        ("push=1", "no boolean"),
    ]:
        with pytest.raises(ScheduleError, match=message):
            schedule.parse_parameters(compiled, [text])
    with pytest.raises(ScheduleError, match="given twice"):
        schedule.parse_parameters(compiled, ["epochs=1", "epochs=2"])


def test_token_is_read_again_for_each_request(tmp_path: Path) -> None:
    fake = FakeApi(token="first")
    token = tmp_path / "token"
    token.write_text("first\n", encoding="utf-8")
    with FakeServer(fake) as server:
        api = Api(Connection(server.host, token_file=token))
        assert schedule.runs(api) == []
        fake.token = "second"
        with pytest.raises(ApiError, match=r"401.*--token-file"):
            schedule.runs(api)
        token.write_text("second\n", encoding="utf-8")
        assert schedule.runs(api) == []


def test_cookies(tmp_path: Path) -> None:
    cookies = tmp_path / "cookies"
    cookies.write_text("authservice_session=abc", encoding="utf-8")
    with FakeServer(FakeApi(cookie="authservice_session=abc")) as server:
        assert schedule.runs(Api(Connection(server.host, cookies_file=cookies))) == []
        with pytest.raises(ApiError, match="login page"):
            schedule.runs(Api(Connection(server.host)))


def test_ca_bundle(tmp_path: Path) -> None:
    certificate, key = self_signed_certificate(tmp_path)
    with FakeServer(FakeApi(), certificate=certificate, key=key) as server:
        assert server.host.startswith("https://")
        assert schedule.runs(Api(Connection(server.host, ca_bundle=certificate))) == []
        with pytest.raises(ServerUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            schedule.runs(Api(Connection(server.host)))


def test_in_cluster_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVICE_ACCOUNT_TOKEN_VARIABLE, str(tmp_path / "token"))
    with pytest.raises(ValueError, match="no service account token"):
        in_cluster()
    (tmp_path / "token").write_text("pod", encoding="utf-8")
    assert in_cluster().host == "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
    with FakeServer(FakeApi(token="pod")) as server:
        assert schedule.runs(Api(in_cluster(host=server.host))) == []


@pytest.mark.parametrize("host", ["", "kubeflow", "ftp://kubeflow", "http://"])
def test_a_host_is_a_url(host: str) -> None:
    with pytest.raises(ValueError, match=r"no http:// or https:// URL"):
        Connection(host)


def test_a_server_that_is_down_is_reported_within_the_deadline() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{unused.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(ServerUnreachableError, match=r"no answer within 0\.5 s.*Is the server up"):
        schedule.runs(Api(Connection(host, deadline=0.5)))
    assert time.monotonic() - start < 2


def test_a_server_that_does_not_answer_is_reported_within_the_deadline() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        host = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(ServerUnreachableError, match="timed out"):
            schedule.runs(Api(Connection(host, deadline=0.5)))
        assert time.monotonic() - start < 2


def test_a_server_that_starts_late_is_waited_for() -> None:
    server = FakeServer(FakeApi())
    host = server.host
    with server:
        pass
    port = int(host.rsplit(":", 1)[1])
    late: list[FakeServer] = []

    def start() -> None:
        time.sleep(0.4)
        late.append(FakeServer(FakeApi(), port=port).__enter__())

    thread = threading.Thread(target=start)
    thread.start()
    try:
        assert Api(Connection(host, deadline=5)).get("/healthz") == {"multi_user": False}
    finally:
        thread.join()
        late[0].__exit__()


@pytest.mark.parametrize(
    ("change", "accepted_by"),
    [
        pytest.param("underscore", "schedule", id="underscore: the schedule is accepted, the run is not"),
        pytest.param("resolver", "upload", id="resolver: only the upload is accepted"),
    ],
)
def test_the_fake_reacts_when_the_backend_does(
    api: Api, pipeline: Path, pipeline_document: dict[str, Any], change: str, accepted_by: str
) -> None:
    if change == "resolver":
        pipeline_document["deploymentSpec"]["executors"]["Trainer_executor"] = {"resolver": {}}
    else:
        task = pipeline_document["root"]["dag"]["tasks"].pop("Trainer")
        task["taskInfo"]["name"] = "my_trainer"
        pipeline_document["root"]["dag"]["tasks"]["my_trainer"] = task
    pipeline.write_text(yaml.safe_dump(pipeline_document), encoding="utf-8")
    pipeline_id = api.upload("/pipelines/upload", pipeline, name="p")["pipeline_id"]
    (version,) = api.items(f"/pipelines/{pipeline_id}/versions", "pipeline_versions")
    uploaded = Version(pipeline_id, version["pipeline_version_id"], "p", True)
    with pytest.raises(ApiError):
        schedule.run_once(api, uploaded, SETTINGS)
    if accepted_by == "schedule":
        assert schedule.schedule(api, uploaded, SETTINGS, WEEKLY).change == "created"
    else:
        with pytest.raises(ApiError):
            schedule.schedule(api, uploaded, SETTINGS, WEEKLY)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_fake_serves_the_official_client(
    fake: FakeApi, api: Api, pipeline: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client_module = pytest.importorskip("kfp.client.client")
    monkeypatch.setattr(client_module.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    client = client_module.Client(host=api.connection.host)
    experiment = client.create_experiment("ner")
    assert client.create_experiment("ner").experiment_id == experiment.experiment_id
    uploaded = client.upload_pipeline(str(pipeline), pipeline_name="tiny-ner")
    version = client.upload_pipeline_version(str(pipeline), "v2", pipeline_id=uploaded.pipeline_id)
    reference = {"pipeline_id": uploaded.pipeline_id, "version_id": version.pipeline_version_id}
    assert client.list_runs().runs is None
    client.run_pipeline(experiment.experiment_id, "once", pipeline_root=ROOT, **reference)
    client.create_recurring_run(
        experiment.experiment_id, "weekly", cron_expression="0 0 3 * * 1", no_catchup=True, **reference
    )
    assert [run["display_name"] for run in schedule.runs(api)] == ["once"]
    assert [run["display_name"] for run in schedule.recurring_runs(api)] == ["weekly"]
    assert fake.runs[0]["runtime_config"]["pipeline_root"] == ROOT
