"""Uploading a compiled pipeline, running it once, and keeping its schedules: all of it idempotent by name."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from kfp.pipeline_spec import pipeline_spec_pb2

from kubeflow import cron
from kubeflow.acceptance import CompiledPipeline, read_pipeline
from kubeflow.api import Api, ApiError

MAXIMUM_CONCURRENCY = 10
_OBJECT_STORES = ("gs://", "s3://", "minio://")


class ScheduleError(ValueError):
    """Raised for a request that makes no sense; the message says what to give instead."""


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What every run of a pipeline gets, once or on a schedule.

    Attributes:
        pipeline_root: object store folder for the artifacts; the compiled file does not carry it, so each run must.
        parameters: runtime parameters by name; the others keep the defaults of the file.
        experiment: the experiment, created where it is missing.
    """

    pipeline_root: str
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    experiment: str = "fusion-ner"

    def __post_init__(self) -> None:
        if not self.pipeline_root.startswith(_OBJECT_STORES):
            raise ScheduleError(
                f"the pipeline root {self.pipeline_root!r} is no {', '.join(_OBJECT_STORES)} URI: the launcher copies "
                "artifacts to an object store and to nothing else"
            )


@dataclasses.dataclass(frozen=True)
class ScheduleSettings:
    """When a pipeline runs again.

    Attributes:
        name: of the recurring run; scheduling again under the same name replaces it.
        schedule: when it fires.
        concurrency: how many of its runs may be active at once, 1 to 10.
        catch_up: whether firings missed while paused or down are made up for, each with a run of its own.
        start: no firing before, RFC 3339; "" for at once.
        end: no firing after; "" for never.
    """

    name: str
    schedule: cron.Schedule
    concurrency: int = 1
    catch_up: bool = False
    start: str = ""
    end: str = ""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ScheduleError("a schedule needs a name")
        if not 1 <= self.concurrency <= MAXIMUM_CONCURRENCY:
            raise ScheduleError(f"concurrency: expected 1 to {MAXIMUM_CONCURRENCY}; received {self.concurrency}")
        times = [_time(text) for text in (self.start, self.end) if text]
        if len(times) == 2 and times[0] >= times[1]:
            raise ScheduleError(f"the schedule ends ({self.end}) before it starts ({self.start})")


@dataclasses.dataclass(frozen=True)
class Version:
    """An uploaded pipeline version.

    Attributes:
        pipeline_id: of the pipeline.
        version_id: of the version.
        name: of the version.
        created: False if the very file was there already.
    """

    pipeline_id: str
    version_id: str
    name: str
    created: bool


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A run or a schedule.

    Attributes:
        identifier: its id on the server.
        name: its name.
        change: "created", "unchanged" or "replaced".
    """

    identifier: str
    name: str
    change: str


def upload(api: Api, path: pathlib.Path, *, pipeline_name: str = "", version_name: str = "") -> Version:
    """Uploads a compiled pipeline as a new version, unless this very file is there already.

    Args:
        api: the server.
        path: the compiled file; checked against the acceptance rules first.
        pipeline_name: on the server; the name inside the file where empty.
        version_name: of the version; the beginning of the file's SHA-256 where empty.

    Raises:
        AcceptanceError: the backend would not run the file.
        ScheduleError: the version name is taken by another file.
        ApiError: the server refused it.
    """
    compiled = read_pipeline(path)
    name = pipeline_name or compiled.name
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # The server stores the description with the version, so the file can be recognised later.
    description = f"fusion-ner, sha256:{digest}"
    namespace = api.connection.namespace
    pipeline = _find(api, "/pipelines", ("pipelines",), name, namespace=namespace)
    if pipeline is None:
        created = api.upload("/pipelines/upload", path, name=name, description=description, namespace=namespace)
        version = next(_versions(api, created["pipeline_id"]))
        return Version(created["pipeline_id"], version["pipeline_version_id"], version["display_name"], True)
    pipeline_id = pipeline["pipeline_id"]
    for version in _versions(api, pipeline_id):
        # By its default name, too, where a server keeps no descriptions of versions.
        if description in (version.get("description") or "") or version.get("display_name") == digest[:12]:
            return Version(pipeline_id, version["pipeline_version_id"], version["display_name"], False)
    version_name = version_name or digest[:12]
    try:
        version = api.upload(
            "/pipelines/upload_version", path, name=version_name, pipelineid=pipeline_id, description=description
        )
    except ApiError as error:
        if error.status != 409:
            raise
        raise ScheduleError(
            f"version {version_name!r} of pipeline {name!r} exists with other content; choose another --version-name"
        ) from error
    return Version(pipeline_id, version["pipeline_version_id"], version["display_name"], True)


def run_once(api: Api, version: Version, settings: RunSettings, *, name: str = "") -> Outcome:
    """Starts a run; with a given `name` that a run of the experiment bears already, that run is returned instead."""
    experiment_id = experiment(api, settings.experiment)
    if name:
        existing = _find(api, "/runs", ("runs",), name, experiment_id=experiment_id)
        if existing is not None:
            return Outcome(existing["run_id"], name, "unchanged")
    now = datetime.datetime.now(datetime.timezone.utc)
    name = name or f"{version.name}-{now:%Y%m%d-%H%M%S}"
    run = api.post("/runs", {"display_name": name, **_job(experiment_id, version, settings)})
    return Outcome(run["run_id"], name, "created")


def schedule(api: Api, version: Version, settings: RunSettings, when: ScheduleSettings) -> Outcome:
    """Creates a recurring run, or brings the one of the same name in line.

    The API cannot change a recurring run. So a new one is created before the old one is deleted: if anything fails
    between, there is one schedule too many, which the next call removes, but never none. A paused one stays paused.
    """
    experiment_id = experiment(api, settings.experiment)
    body = {
        "display_name": when.name,
        **_job(experiment_id, version, settings),
        "mode": "ENABLE",
        "max_concurrency": str(when.concurrency),
        "no_catchup": not when.catch_up,
        "trigger": _trigger(when),
    }
    existing = recurring_runs(api, experiment_id=experiment_id, name=when.name)
    same = [run for run in existing if _wanted(run) == _wanted(body)]
    paused = bool(existing) and all(run.get("status") == "DISABLED" for run in existing)
    if same:
        identifier, change = same[0]["recurring_run_id"], "unchanged"
    else:
        body["mode"] = "DISABLE" if paused else "ENABLE"
        identifier = api.post("/recurringruns", body)["recurring_run_id"]
        change = "replaced" if existing else "created"
    for run in existing:
        if run["recurring_run_id"] != identifier:
            api.delete(f"/recurringruns/{run['recurring_run_id']}")
    return Outcome(identifier, when.name, change)


def experiment(api: Api, name: str) -> str:
    """Returns the id of the experiment `name`, which is created where it is missing."""
    namespace = api.connection.namespace
    found = _find(api, "/experiments", ("experiments",), name, namespace=namespace)
    if found is not None:
        return found["experiment_id"]
    body = {"display_name": name, **({"namespace": namespace} if namespace else {})}
    return api.post("/experiments", body)["experiment_id"]


def recurring_runs(api: Api, *, experiment_id: str = "", name: str = "") -> list[dict[str, Any]]:
    """Returns the recurring runs of an experiment, or of the namespace."""
    query = {"experiment_id": experiment_id} if experiment_id else {"namespace": api.connection.namespace}
    runs = api.items("/recurringruns", "recurringRuns", "recurring_runs", **query)
    return [run for run in runs if name in ("", run.get("display_name"))]


def runs(api: Api, *, experiment_id: str = "", limit: int = 20) -> list[dict[str, Any]]:
    """Returns the newest runs of an experiment, or of the namespace."""
    query = {"experiment_id": experiment_id} if experiment_id else {"namespace": api.connection.namespace}
    page = api.get("/runs", page_size=limit, sort_by="created_at desc", **query)
    return list(page.get("runs") or [])[:limit]


def find_schedule(api: Api, name: str) -> dict[str, Any]:
    """Returns the recurring run with the name or id `name`.

    Raises:
        ScheduleError: there is none, or several bear the name.
    """
    found = recurring_runs(api)
    matching = [run for run in found if name in (run.get("display_name"), run["recurring_run_id"])]
    if len(matching) == 1:
        return matching[0]
    if matching:
        ids = ", ".join(run["recurring_run_id"] for run in matching)
        raise ScheduleError(f"several schedules are named {name!r}; give one of their ids: {ids}")
    names = ", ".join(sorted({run.get("display_name", "") for run in found})) or "none"
    raise ScheduleError(f"no schedule named {name!r}; there are: {names}")


def set_paused(api: Api, name: str, *, paused: bool) -> Outcome:
    """Pauses or resumes a schedule; one that is so already stays as it is."""
    run = find_schedule(api, name)
    if (run.get("status") == "DISABLED") == paused:
        return Outcome(run["recurring_run_id"], run["display_name"], "unchanged")
    api.post(f"/recurringruns/{run['recurring_run_id']}:{'disable' if paused else 'enable'}")
    return Outcome(run["recurring_run_id"], run["display_name"], "paused" if paused else "resumed")


def delete_schedule(api: Api, name: str) -> Outcome:
    """Deletes a schedule; its past runs stay."""
    run = find_schedule(api, name)
    api.delete(f"/recurringruns/{run['recurring_run_id']}")
    return Outcome(run["recurring_run_id"], run["display_name"], "deleted")


def parse_parameters(compiled: CompiledPipeline, texts: list[str]) -> dict[str, Any]:
    """Reads NAME=VALUE texts as runtime parameters of the types that the compiled file declares.

    Raises:
        ScheduleError: an unknown name, a wrong type, or a name given twice.
    """
    definitions = compiled.specification.root.input_definitions.parameters
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in definitions:
            known = ", ".join(sorted(definitions)) or "none"
            raise ScheduleError(f"parameter {text!r}: expected NAME=VALUE with one of the names: {known}")
        if name in values:
            raise ScheduleError(f"parameter {name!r} is given twice")
        values[name] = _typed(name, value, definitions[name].parameter_type)
    return values


def _typed(name: str, text: str, parameter_type: int) -> Any:
    type_name = pipeline_spec_pb2.ParameterType.ParameterTypeEnum.Name(parameter_type)
    if type_name == "STRING":
        return text
    try:
        if type_name == "NUMBER_INTEGER":
            return int(text)
        if type_name == "NUMBER_DOUBLE":
            return float(text)
        value = json.loads(text)
    except ValueError as error:
        raise ScheduleError(f"parameter {name}: {text!r} is no {type_name.lower().replace('_', ' ')}") from error
    expected = {"BOOLEAN": bool, "LIST": list, "STRUCT": dict}.get(type_name)
    if expected is None or not isinstance(value, expected):
        raise ScheduleError(f"parameter {name}: {text!r} is no {type_name.lower()}")
    return value


def _versions(api: Api, pipeline_id: str) -> Iterator[dict[str, Any]]:
    return api.items(f"/pipelines/{pipeline_id}/versions", "pipeline_versions", sort_by="created_at desc")


def _find(api: Api, path: str, keys: tuple[str, ...], name: str, **query: Any) -> dict[str, Any] | None:
    for item in api.items(path, *keys, filter=_name_filter(name), **query):
        # Not every server applies the filter to every list.
        if item.get("display_name") == name:
            return item
    return None


def _name_filter(name: str) -> str:
    return json.dumps({"predicates": [{"operation": 1, "key": "display_name", "stringValue": name}]})


def _job(experiment_id: str, version: Version, settings: RunSettings) -> dict[str, Any]:
    return {
        "experiment_id": experiment_id,
        "pipeline_version_reference": {"pipeline_id": version.pipeline_id, "pipeline_version_id": version.version_id},
        "runtime_config": {"parameters": dict(settings.parameters), "pipeline_root": settings.pipeline_root},
    }


def _trigger(when: ScheduleSettings) -> dict[str, Any]:
    cron_schedule = {"cron": when.schedule.expression}
    for key, text in (("start_time", when.start), ("end_time", when.end)):
        if text:
            cron_schedule[key] = f"{_time(text).astimezone(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    return {"cron_schedule": cron_schedule}


def _wanted(run: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes two recurring runs the same; the server leaves out false and empty fields."""
    configuration = run.get("runtime_config") or {}
    trigger = (run.get("trigger") or {}).get("cron_schedule") or {}
    # The beginning of time stands for no time.
    times = [_time(trigger[key]).timestamp() if trigger.get(key) else 0.0 for key in ("start_time", "end_time")]
    return (
        run.get("pipeline_version_reference"),
        configuration.get("parameters") or {},
        configuration.get("pipeline_root") or "",
        str(run.get("max_concurrency") or 1),
        bool(run.get("no_catchup")),
        trigger.get("cron"),
        times,
    )


def _time(text: str) -> datetime.datetime:
    try:
        time = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise ScheduleError(f"{text!r} is no time like 2026-11-24T03:00:00Z") from error
    return time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)
