"""`fusion-ner kubeflow`: compile the pipeline, verify the compiled file, submit it, keep its schedules."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import pathlib
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.command_line import UsageError

if TYPE_CHECKING:
    from kubeflow.api import Api
    from kubeflow.schedule import Outcome, RunSettings, Version

# The variable that the kfp package reads, too.
HOST_VARIABLE = "KF_PIPELINES_ENDPOINT"
_VERIFY_ROOT = "minio://verify"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_compile(actions.add_parser("compile", help="write the pipeline as a file for Kubeflow Pipelines"))
    _add_verify(actions.add_parser("verify", help="execute a compiled file without a cluster, as the backend would"))
    _add_submit(actions.add_parser("submit", help="upload a compiled file and run it once"))
    _add_schedule(actions.add_parser("schedule", help="upload a compiled file and run it again and again"))
    listing = actions.add_parser("list", help="show schedules and the newest runs")
    _add_connection(listing)
    listing.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    listing.add_argument("--limit", type=int, default=10, help="number of runs to show (10)")
    for name, text in (("pause", "pause a schedule"), ("resume", "resume a schedule"), ("delete", "delete a schedule")):
        action = actions.add_parser(name, help=text)
        action.add_argument("name", help="name or id of the schedule")
        _add_connection(action)


def main(arguments: argparse.Namespace) -> int:
    """Runs one action."""
    # TensorFlow reports at length that it found no GPU, and Google's packages that they will not support this Python.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning)
    actions = {
        "compile": _compile, "verify": _verify, "submit": _submit, "schedule": _schedule, "list": _list,
        "pause": _change, "resume": _change, "delete": _change,
    }  # fmt: skip
    return actions[arguments.action](arguments)


def _add_compile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=pathlib.Path, required=True, help="the YAML file of the pipeline")
    parser.add_argument("--image", required=True, help="image of the tasks, pinned by tag or digest")
    parser.add_argument("--trainer-image", help="image of the Trainer, with GPU support; the Trainer then gets a GPU")
    parser.add_argument("--pipeline-root", required=True, help="object store folder: gs://, s3:// or minio://")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="the file to write, .yaml")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=pathlib.Path, help="the compiled file")
    _add_parameters(parser)
    parser.add_argument("--pipeline-root", default=_VERIFY_ROOT, help="as a run would get it (%(default)s)")
    parser.add_argument(
        "--work", type=pathlib.Path, help="folder for artifacts and logs; default: one that is removed after success"
    )
    parser.add_argument(
        "--mount",
        action="append",
        default=[],
        metavar="PATH=FOLDER",
        help="a local folder in place of a volume; repeatable",
    )
    parser.add_argument(
        "--fresh-processes", action="store_true", help="start a process per task instead of forking: slower, as in pods"
    )


def _add_submit(parser: argparse.ArgumentParser) -> None:
    _add_upload(parser)
    parser.add_argument("--run-name", default="", help="a run of this name is not started twice")
    _add_connection(parser)


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    _add_upload(parser)
    parser.add_argument("--name", required=True, help="of the schedule; one of the same name is brought in line")
    parser.add_argument(
        "--cron", required=True, help="five fields, or six with the seconds first, or @daily, @every 6h"
    )
    parser.add_argument("--concurrency", type=int, default=1, help="runs that may be active at once, 1 to 10 (1)")
    parser.add_argument("--catch-up", action="store_true", help="make up for firings that were missed")
    parser.add_argument("--start", default="", help="no firing before, such as 2026-12-01T00:00:00Z")
    parser.add_argument("--end", default="", help="no firing after")
    parser.add_argument("--dry-run", action="store_true", help="only say when it would fire")
    _add_connection(parser)


def _add_upload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=pathlib.Path, help="the compiled file")
    parser.add_argument("--pipeline-root", required=True, help="object store folder: gs://, s3:// or minio://")
    parser.add_argument("--pipeline", default="", help="name of the pipeline on the server; default: the file's")
    parser.add_argument("--version-name", default="", help="name of the version; default: the file's digest")
    parser.add_argument("--experiment", default="fusion-ner", help="created where it is missing (%(default)s)")
    _add_parameters(parser)


def _add_parameters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--parameter", "-p", action="append", default=[], metavar="NAME=VALUE", help="a runtime parameter; repeatable"
    )


def _add_connection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="", help=f"URL of the API; default: the variable {HOST_VARIABLE}")
    parser.add_argument("--token-file", type=pathlib.Path, help="file with a bearer token")
    parser.add_argument("--cookies-file", type=pathlib.Path, help="file with a Cookie header, for Dex or oauth2-proxy")
    parser.add_argument("--in-cluster", action="store_true", help="use the pod's service account and the API's service")
    parser.add_argument("--ca-bundle", type=pathlib.Path, help="certificates to trust")
    parser.add_argument("--namespace", default="", help="profile namespace of a multi-user installation")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds to wait for an answer (30)")


def _compile(arguments: argparse.Namespace) -> int:
    from components import progress
    from components.settings import SettingsError
    from kubeflow.acceptance import AcceptanceError
    from kubeflow.compile import CompileError, Images, compile_pipeline
    from kubeflow.schedule import RunSettings, ScheduleError
    from pipeline.configuration import read_configuration

    if arguments.output.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--output {arguments.output}: the backend takes .yaml files only")
    progress.show_on(logging.StreamHandler())
    try:
        RunSettings(arguments.pipeline_root)
        images = Images(arguments.image, arguments.trainer_image)
        configuration = read_configuration(arguments.config, {}, on_cluster=True)
        text = compile_pipeline(configuration, configuration.kubeflow, images, pipeline_root=arguments.pipeline_root)
    except (SettingsError, CompileError, ScheduleError, AcceptanceError) as error:
        raise UsageError(str(error)) from error
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text, encoding="utf-8")
    print(f"wrote {arguments.output}; check it with `fusion-ner kubeflow verify {arguments.output}`")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from kubeflow import verify
    from kubeflow.pods import UnsupportedError

    compiled = _read_compiled(arguments.file)
    parameters = _parameters(compiled, arguments.parameter)
    mounts = _mounts(arguments.mount)
    work = _work_folder(arguments.work)
    try:
        result = verify.verify(
            compiled,
            parameters=parameters,
            pipeline_root=arguments.pipeline_root,
            work=work,
            mounts=mounts,
            fork=not arguments.fresh_processes,
            report=_print_task,
        )
    except UnsupportedError as error:
        raise UsageError(f"{arguments.file}: {error}") from error
    for path in result.pushed:
        print(f"pushed: {path}")
    for refusal in result.refusals:
        print(f"not pushed: {refusal}")
    if result.failed or not result.pushed:
        print(f"artifacts and logs: {work}", file=sys.stderr)
        return 1
    if arguments.work is None:
        shutil.rmtree(work)
    return 0


def _mounts(texts: list[str]) -> dict[str, str]:
    mounts = {}
    for text in texts:
        path, equals, folder = text.partition("=")
        if not equals or not path.startswith("/") or not pathlib.Path(folder).is_dir():
            raise UsageError(f"--mount {text}: expected the mount path of a volume, =, and an existing folder")
        mounts[path.rstrip("/")] = str(pathlib.Path(folder).resolve())
    return mounts


def _work_folder(folder: pathlib.Path | None) -> pathlib.Path:
    if folder is None:
        return pathlib.Path(tempfile.mkdtemp(prefix="fusion-ner-verify-"))
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"--work {folder}: the folder is not empty")
    return folder.resolve()


def _print_task(task: Any) -> None:
    state = "FAILED" if task.error else "not run" if task.skipped else "done"
    print(f"{task.name:<28} {state:<8} {task.seconds:6.1f} s", flush=True)
    if task.error:
        print(task.error, file=sys.stderr, flush=True)


def _submit(arguments: argparse.Namespace) -> int:
    from kubeflow import schedule

    with _friendly_errors():
        settings = _run_settings(arguments)
        api = _api(arguments)
        version = _upload(api, arguments)
        _print_outcome("run", schedule.run_once(api, version, settings, name=arguments.run_name))
    return 0


def _schedule(arguments: argparse.Namespace) -> int:
    import datetime

    from kubeflow import schedule
    from kubeflow.cron import understand

    with _friendly_errors():
        when = understand(arguments.cron)
        wanted = schedule.ScheduleSettings(
            name=arguments.name,
            schedule=when,
            concurrency=arguments.concurrency,
            catch_up=arguments.catch_up,
            start=arguments.start,
            end=arguments.end,
        )
        settings = _run_settings(arguments)
        now = datetime.datetime.now(datetime.timezone.utc)
        print(f"{when.expression}: {when.meaning()} (time zone of the server, UTC unless it was changed)")
        print("next: " + ", ".join(f"{time:%Y-%m-%d %H:%M:%S}" for time in when.next_firings(now)))
        if when.fires_more_than_once_a_minute():
            print("warning: this fires more than once a minute; the first of six fields is the second", file=sys.stderr)
        if arguments.dry_run:
            return 0
        api = _api(arguments)
        version = _upload(api, arguments)
        _print_outcome("schedule", schedule.schedule(api, version, settings, wanted))
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from kubeflow import schedule

    with _friendly_errors():
        api = _api(arguments)
        schedules = [_schedule_row(item) for item in schedule.recurring_runs(api)]
        runs = [_run_row(item) for item in schedule.runs(api, limit=arguments.limit)]
    if arguments.json:
        print(json.dumps({"schedules": schedules, "runs": runs}, ensure_ascii=False))
    else:
        _print_table("Schedules", schedules)
        _print_table("Runs", runs)
    return 0


def _change(arguments: argparse.Namespace) -> int:
    from kubeflow import schedule

    with _friendly_errors():
        api = _api(arguments)
        if arguments.action == "delete":
            outcome = schedule.delete_schedule(api, arguments.name)
        else:
            outcome = schedule.set_paused(api, arguments.name, paused=arguments.action == "pause")
    _print_outcome("schedule", outcome)
    return 0


@contextlib.contextmanager
def _friendly_errors() -> Iterator[None]:
    from kubeflow.acceptance import AcceptanceError
    from kubeflow.api import ApiError, ServerUnreachableError
    from kubeflow.cron import CronError
    from kubeflow.schedule import ScheduleError

    try:
        yield
    except (AcceptanceError, CronError, ScheduleError) as error:
        raise UsageError(str(error)) from error
    except (ApiError, ServerUnreachableError) as error:
        print(f"fusion-ner kubeflow: {error}", file=sys.stderr)
        raise SystemExit(1) from error


def _api(arguments: argparse.Namespace) -> Api:
    from kubeflow.api import Api, Connection, in_cluster_connection

    host = arguments.host or os.environ.get(HOST_VARIABLE, "")
    try:
        if arguments.in_cluster:
            return Api(in_cluster_connection(namespace=arguments.namespace, host=host, deadline=arguments.timeout))
        if not host:
            raise ValueError(f"give --host, or --in-cluster, or set {HOST_VARIABLE}")
        return Api(
            Connection(
                host=host,
                token_file=arguments.token_file,
                cookies_file=arguments.cookies_file,
                ca_bundle=arguments.ca_bundle,
                namespace=arguments.namespace,
                deadline=arguments.timeout,
            )
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _read_compiled(path: pathlib.Path) -> Any:
    from kubeflow.acceptance import AcceptanceError, read_pipeline

    try:
        return read_pipeline(path)
    except (AcceptanceError, OSError, UnicodeDecodeError) as error:
        raise UsageError(str(error)) from error


def _parameters(compiled: Any, texts: list[str]) -> dict[str, Any]:
    from kubeflow.schedule import ScheduleError, parse_parameters

    try:
        return parse_parameters(compiled, texts)
    except ScheduleError as error:
        raise UsageError(str(error)) from error


def _run_settings(arguments: argparse.Namespace) -> RunSettings:
    from kubeflow.schedule import RunSettings

    parameters = _parameters(_read_compiled(arguments.file), arguments.parameter)
    return RunSettings(arguments.pipeline_root, parameters, arguments.experiment)


def _upload(api: Api, arguments: argparse.Namespace) -> Version:
    from kubeflow import schedule

    version = schedule.upload(
        api, arguments.file, pipeline_name=arguments.pipeline, version_name=arguments.version_name
    )
    print(f"version {version.name}: {'uploaded' if version.created else 'unchanged'} ({version.version_id})")
    return version


def _print_outcome(kind: str, outcome: Outcome) -> None:
    print(f"{kind} {outcome.name}: {outcome.change} ({outcome.identifier})")


def _schedule_row(item: Mapping[str, Any]) -> dict[str, Any]:
    from kubeflow.cron import CronError, parse_backend

    expression = ((item.get("trigger") or {}).get("cron_schedule") or {}).get("cron", "")
    try:
        # Schedules that others made may be shifted; so they are read as the backend reads them.
        meaning = parse_backend(expression).meaning() if expression else ""
    except CronError as error:
        meaning = str(error)
    return {
        "name": item.get("display_name", ""),
        "status": item.get("status", ""),
        "cron": expression,
        "meaning": meaning,
        "concurrency": int(item.get("max_concurrency") or 1),
        "catch_up": not item.get("no_catchup", False),
        "id": item["recurring_run_id"],
    }


def _run_row(item: Mapping[str, Any]) -> dict[str, Any]:
    keys = {
        "name": "display_name",
        "state": "state",
        "created": "created_at",
        "finished": "finished_at",
        "id": "run_id",
    }
    return {name: item.get(key, "") for name, key in keys.items()}


def _print_table(title: str, rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        print(f"{title}: none")
        return
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
