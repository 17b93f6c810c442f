"""A fake of the Kubeflow Pipelines API (v2beta1) that answers and refuses as version 2.17.0 was seen to.

It keeps pipelines, experiments, runs and recurring runs in memory, applies the acceptance rules at the moment at which
the backend applies them, and leaves out the key of an empty list.
"""

from __future__ import annotations

import datetime
import email.parser
import email.policy
import http.server
import ipaddress
import json
import re
import ssl
import threading
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kubeflow.acceptance import Moment, findings
from kubeflow.cron import CronError, parse_backend

PREFIX = "/apis/v2beta1"
Json = dict[str, Any]


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeApi:
    """The state of the server; `requests` holds every request as (method, path with query, body).

    Args:
        token: when set, requests without this bearer token get 401.
        cookie: when set, requests without this cookie get a login page.
        page_size: items of a list page, whatever the client asks for.
    """

    def __init__(self, *, token: str = "", cookie: str = "", page_size: int = 2) -> None:
        self.token, self.cookie, self.page_size = token, cookie, page_size
        self.experiments: list[Json] = []
        self.pipelines: list[Json] = []
        self.versions: list[Json] = []
        self.runs: list[Json] = []
        self.recurring_runs: list[Json] = []
        self.requests: list[tuple[str, str, Json]] = []
        self._texts: dict[str, str] = {}
        self._ids = 0

    def answer(self, method: str, path: str, query: Json, body: Json, upload: str) -> Json:
        """Returns the JSON answer of one request."""
        for wanted_method, pattern, handler in self._routes():
            match = re.fullmatch(pattern, path)
            if method == wanted_method and match:
                return handler(*match.groups(), query=query, body=body, upload=upload)
        raise _RefusedError(404, f"Not Found: {method} {path}")

    def _routes(self) -> list[tuple[str, str, Callable[..., Json]]]:
        name = r"([\w-]+)"
        return [
            ("GET", "/healthz", lambda **_: {"multi_user": False}),
            ("GET", "/experiments", lambda query, **_: self._page("experiments", self.experiments, query)),
            ("POST", "/experiments", self._create_experiment),
            ("GET", "/pipelines", lambda query, **_: self._page("pipelines", self.pipelines, query)),
            ("POST", "/pipelines/upload", self._upload_pipeline),
            ("POST", "/pipelines/upload_version", self._upload_version),
            ("DELETE", f"/pipelines/{name}", self._delete_pipeline),
            ("GET", f"/pipelines/{name}/versions", self._list_versions),
            ("GET", "/runs", self._list_runs),
            ("POST", "/runs", self._create_run),
            ("GET", "/recurringruns", self._list_recurring_runs),
            ("POST", "/recurringruns", self._create_recurring_run),
            ("DELETE", f"/recurringruns/{name}", self._delete_recurring_run),
            ("POST", f"/recurringruns/{name}:(enable|disable)", self._switch),
        ]

    def _page(self, key: str, items: list[Json], query: Json) -> Json:
        predicates = json.loads(query["filter"])["predicates"] if "filter" in query else []
        for predicate in predicates:
            items = [item for item in items if item[predicate["key"]] == predicate["stringValue"]]
        start = int(query.get("page_token", "0"))
        page: Json = {key: items[start : start + self.page_size]} if items else {}
        if start + self.page_size < len(items):
            page["next_page_token"] = str(start + self.page_size)
        return page

    def _new_id(self, kind: str) -> str:
        self._ids += 1
        return f"{kind}-{self._ids}"

    def _create_experiment(self, body: Json, **_: Any) -> Json:
        if any(item["display_name"] == body["display_name"] for item in self.experiments):
            raise _RefusedError(409, "Experiment already exists")
        self.experiments.append({"experiment_id": self._new_id("experiment"), **body})
        return self.experiments[-1]

    def _upload_pipeline(self, query: Json, upload: str, **_: Any) -> Json:
        if any(item["display_name"] == query["name"] for item in self.pipelines):
            raise _RefusedError(409, "Failed to create a pipeline and a pipeline version")
        _refuse(upload, 400, {Moment.UPLOAD})
        pipeline = {"pipeline_id": self._new_id("pipeline"), "display_name": query["name"]}
        self.pipelines.append(pipeline)
        self._add_version(pipeline["pipeline_id"], query, upload)
        return pipeline

    def _upload_version(self, query: Json, upload: str, **_: Any) -> Json:
        pipeline_id = query["pipelineid"]
        if any(item["display_name"] == query["name"] and item["pipeline_id"] == pipeline_id for item in self.versions):
            raise _RefusedError(409, "Failed to create a pipeline version")
        _refuse(upload, 400, {Moment.UPLOAD})
        return self._add_version(pipeline_id, query, upload)

    def _add_version(self, pipeline_id: str, query: Json, upload: str) -> Json:
        version = {
            "pipeline_id": pipeline_id,
            "pipeline_version_id": self._new_id("version"),
            "display_name": query["name"],
            "description": query.get("description", ""),
        }
        self.versions.insert(0, version)
        self._texts[version["pipeline_version_id"]] = upload
        return version

    def _list_versions(self, pipeline_id: str, query: Json, **_: Any) -> Json:
        versions = [version for version in self.versions if version["pipeline_id"] == pipeline_id]
        return self._page("pipeline_versions", versions, query)

    def _delete_pipeline(self, pipeline_id: str, **_: Any) -> Json:
        if any(version["pipeline_id"] == pipeline_id for version in self.versions):
            raise _RefusedError(400, "the pipeline has versions")
        self.pipelines = [item for item in self.pipelines if item["pipeline_id"] != pipeline_id]
        return {}

    def _text_of(self, body: Json) -> str:
        version_id = body["pipeline_version_reference"]["pipeline_version_id"]
        if version_id not in self._texts:
            raise _RefusedError(500, f"PipelineVersion {version_id} not found")
        if not any(item["experiment_id"] == body["experiment_id"] for item in self.experiments):
            raise _RefusedError(404, f"Experiment {body['experiment_id']} not found")
        return self._texts[version_id]

    def _create_run(self, body: Json, **_: Any) -> Json:
        _refuse(self._text_of(body), 500, {Moment.RUN, Moment.FIRING})
        self.runs.insert(0, {"run_id": self._new_id("run"), "state": "PENDING", **body})
        return self.runs[0]

    def _list_runs(self, query: Json, **_: Any) -> Json:
        wanted = query.get("experiment_id")
        return self._page("runs", [run for run in self.runs if wanted in (None, run["experiment_id"])], query)

    def _create_recurring_run(self, body: Json, **_: Any) -> Json:
        _refuse(self._text_of(body), 500, {Moment.RUN})
        if not 1 <= int(body["max_concurrency"]) <= 10:
            raise _RefusedError(400, "the max_concurrency must be in the range of [1, 10]")
        try:
            parse_backend(body["trigger"]["cron_schedule"]["cron"])
        except CronError as error:
            raise _RefusedError(400, f"Schedule cron is not a valid cron format: {error}") from error
        status = {"ENABLE": "ENABLED", "DISABLE": "DISABLED"}[body["mode"]]
        self.recurring_runs.append({"recurring_run_id": self._new_id("recurring"), "status": status, **body})
        return self.recurring_runs[-1]

    def _list_recurring_runs(self, query: Json, **_: Any) -> Json:
        wanted = query.get("experiment_id")
        found = [run for run in self.recurring_runs if wanted in (None, run["experiment_id"])]
        # False fields are left out of answers, and this list alone is in camel case.
        found = [{key: value for key, value in run.items() if value is not False} for run in found]
        return self._page("recurringRuns", found, query)

    def _delete_recurring_run(self, identifier: str, **_: Any) -> Json:
        self._recurring_run(identifier)
        self.recurring_runs = [run for run in self.recurring_runs if run["recurring_run_id"] != identifier]
        return {}

    def _switch(self, identifier: str, verb: str, **_: Any) -> Json:
        self._recurring_run(identifier)["status"] = {"enable": "ENABLED", "disable": "DISABLED"}[verb]
        return {}

    def _recurring_run(self, identifier: str) -> Json:
        for run in self.recurring_runs:
            if run["recurring_run_id"] == identifier:
                return run
        raise _RefusedError(404, f"RecurringRun {identifier} not found")


def _refuse(text: str, status: int, moments: set[Moment]) -> None:
    found = [finding.message for finding in findings(text) if finding.moment in moments]
    if found:
        raise _RefusedError(status, found[0])


class FakeServer:
    """Serves a FakeApi on a port of this machine, a free one by default, as a context manager.

    Attributes:
        host: the URL to give to the client.
    """

    def __init__(
        self, api: FakeApi, *, port: int = 0, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _handle(self, api)

            do_POST = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *arguments: Any) -> None:
                """Keeps the output of the tests clean."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.host = f"http://127.0.0.1:{self._server.server_port}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.host = f"https://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> FakeServer:
        self._thread.start()
        return self

    def __exit__(self, *arguments: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def self_signed_certificate(folder: Path) -> tuple[Path, Path]:
    """Writes a certificate of 127.0.0.1 and its key into `folder` and returns their paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake Kubeflow Pipelines")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_path, key_path


def _handle(request: http.server.BaseHTTPRequestHandler, api: FakeApi) -> None:
    data = request.rfile.read(int(request.headers.get("Content-Length") or 0))
    url = urllib.parse.urlsplit(request.path)
    query = dict(urllib.parse.parse_qsl(url.query))
    body, upload = _content(request, data)
    api.requests.append((request.command, request.path, body))
    if api.cookie and api.cookie not in request.headers.get("Cookie", ""):
        _send(request, 200, b"<!doctype html><title>Log in</title>", "text/html")
        return
    try:
        if api.token and request.headers.get("Authorization") != f"Bearer {api.token}":
            raise _RefusedError(401, "Request header error: there is no user identity header.")
        answer = api.answer(request.command, url.path.removeprefix(PREFIX), query, body, upload)
        status = 200
    except _RefusedError as error:
        status, answer = error.status, {"error": str(error), "code": 13, "message": str(error), "details": []}
    _send(request, status, json.dumps(answer).encode(), "application/json")


def _content(request: http.server.BaseHTTPRequestHandler, data: bytes) -> tuple[Json, str]:
    content_type = request.headers.get("Content-Type", "")
    if not content_type.startswith("multipart/form-data"):
        return json.loads(data or b"{}"), ""
    parser = email.parser.BytesParser(policy=email.policy.HTTP)
    message = parser.parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + data)
    parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
    part = parts["uploadfile"]
    return {}, part.get_payload(decode=True).decode()


def _send(request: http.server.BaseHTTPRequestHandler, status: int, data: bytes, content_type: str) -> None:
    request.send_response(status)
    request.send_header("Content-Type", content_type)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)
