"""A small client of the Kubeflow Pipelines REST API (v2beta1): authentication, deadlines, errors that say what to do.

The generated client of the kfp package waits 25 seconds for a server that is not there, writes into the home folder and
raises errors that show headers; the dozen requests needed here are plain JSON.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import pathlib
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

PREFIX = "/apis/v2beta1"
# Where the kubelet projects the token that Kubeflow Pipelines accepts, unless the variable says otherwise.
SERVICE_ACCOUNT_TOKEN_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"
SERVICE_ACCOUNT_TOKEN_PATH = "/var/run/secrets/kubeflow/pipelines/token"
IN_CLUSTER_HOST = "http://ml-pipeline.{namespace}.svc.cluster.local:8888"
_PAGE_SIZE = 100
_HINTS = {
    401: "the server wants authentication: give --token-file, --cookies-file or --in-cluster",
    403: "this account may not do that, or a proxy wants authentication (--token-file, --cookies-file, --namespace)",
    404: "it does not exist (any more), or --host is not the address of the Kubeflow Pipelines API",
    409: "that name is taken",
}


class ApiError(RuntimeError):
    """Raised when the server refuses a request.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ServerUnreachableError(RuntimeError):
    """Raised when no answer came within the deadline."""


@dataclasses.dataclass(frozen=True)
class Connection:
    """Where the API is and how to prove who asks.

    Attributes:
        host: URL of the API server or of the proxy before it, without /apis.
        token_file: file with a bearer token, read again for each request, because kubelets rotate it.
        cookies_file: file with the value of a Cookie header, for installations behind Dex or oauth2-proxy.
        ca_bundle: certificates to trust instead of the system's.
        namespace: profile namespace of a multi-user installation; "" for a single-user one.
        deadline: seconds for each request, retries included.
    """

    host: str
    token_file: pathlib.Path | None = None
    cookies_file: pathlib.Path | None = None
    ca_bundle: pathlib.Path | None = None
    namespace: str = ""
    deadline: float = 30.0

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.host)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"the host {self.host!r} is no http:// or https:// URL")
        for path in (self.token_file, self.cookies_file, self.ca_bundle):
            if path is not None and not path.is_file():
                raise ValueError(f"{path}: no such file")
        if self.deadline <= 0:
            raise ValueError(f"the deadline must be positive; received {self.deadline}")


def in_cluster_connection(*, namespace: str = "", host: str = "", deadline: float = 30.0) -> Connection:
    """Returns the connection of a pod: the API's service and the projected service account token.

    Raises:
        ValueError: if the token is not mounted.
    """
    token = pathlib.Path(os.environ.get(SERVICE_ACCOUNT_TOKEN_VARIABLE, SERVICE_ACCOUNT_TOKEN_PATH))
    if not token.is_file():
        raise ValueError(
            f"{token}: no service account token; mount a projected token with audience pipelines.kubeflow.org there, "
            f"or set {SERVICE_ACCOUNT_TOKEN_VARIABLE}"
        )
    host = host or IN_CLUSTER_HOST.format(namespace="kubeflow")
    return Connection(host, token_file=token, namespace=namespace, deadline=deadline)


class Api:
    """Requests to one server.

    Args:
        connection: the server and the account.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._context = ssl.create_default_context(cafile=str(connection.ca_bundle) if connection.ca_bundle else None)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Returns the JSON object at `path`, which begins with a slash and follows /apis/v2beta1."""
        return self._request("GET", path, query)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Posts a JSON object and returns the answer."""
        data = json.dumps(body).encode() if body is not None else b""
        return self._request("POST", path, {}, data, "application/json")

    def delete(self, path: str) -> None:
        """Deletes what `path` names."""
        self._request("DELETE", path, {})

    def upload(self, path: str, file: pathlib.Path, **query: Any) -> dict[str, Any]:
        """Posts `file` as the multipart field that the upload endpoints expect."""
        boundary = uuid.uuid4().hex
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="uploadfile"; filename="{file.name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        data = head.encode() + file.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        return self._request("POST", path, query, data, f"multipart/form-data; boundary={boundary}")

    def items(self, path: str, *keys: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Yields the items of a list, page by page; the server leaves out the key of an empty list.

        Args:
            path: of the list.
            keys: the names under which the server may keep it: some lists are in camel case.
            query: filters.
        """
        token = ""
        while True:
            page = self.get(path, page_size=_PAGE_SIZE, page_token=token, **query)
            for key in keys:
                yield from page.get(key) or []
            token = page.get("next_page_token") or page.get("nextPageToken") or ""
            if not token:
                return

    def _request(
        self, method: str, path: str, query: Mapping[str, Any], data: bytes | None = None, content_type: str = ""
    ) -> dict[str, Any]:
        url = self.connection.host.rstrip("/") + PREFIX + path
        parameters = {key: value for key, value in query.items() if value not in (None, "")}
        if parameters:
            url += "?" + urllib.parse.urlencode(parameters)
        request = urllib.request.Request(url, data=data, method=method, headers=self._headers(content_type))
        what = f"{method} {PREFIX}{path} at {self.connection.host}"
        return _json_object(self._answer(request, what), what)

    def _headers(self, content_type: str) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if content_type:
            headers["Content-Type"] = content_type
        if self.connection.token_file:
            token = self.connection.token_file.read_text(encoding="utf-8").strip()
            headers["Authorization"] = f"Bearer {token}"
        if self.connection.cookies_file:
            headers["Cookie"] = self.connection.cookies_file.read_text(encoding="utf-8").strip()
        return headers

    def _answer(self, request: urllib.request.Request, what: str) -> bytes:
        end = time.monotonic() + self.connection.deadline
        pause = 0.2
        while True:
            try:
                remaining = max(0.1, end - time.monotonic())
                with urllib.request.urlopen(request, timeout=remaining, context=self._context) as response:
                    return response.read()
            except urllib.error.HTTPError as error:
                raise _api_error(error, what) from error
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                # Only a refused connection is sure to have changed nothing on the server, so only it is tried again.
                retried = isinstance(reason, ConnectionRefusedError)
                if not retried or time.monotonic() + pause >= end:
                    raise ServerUnreachableError(
                        f"{what}: no answer within {self.connection.deadline:g} s: {reason}. Is the server up, and "
                        "is --host right (for example after `kubectl port-forward`)?"
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, 2.0)


def _api_error(error: urllib.error.HTTPError, what: str) -> ApiError:
    text = error.read().decode("utf-8", "replace")
    try:
        answer = json.loads(text)
        message = answer.get("message") or answer.get("error_message") or answer.get("error") or text
    except (ValueError, AttributeError):
        message = text.strip()[:300] or error.reason
    hint = _HINTS.get(error.code)
    return ApiError(f"{what}: {error.code}: {message}" + (f" ({hint})" if hint else ""), error.code)


def _json_object(answer: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(answer or b"{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ApiError(
            f"{what}: the answer is no JSON object but begins with {answer[:60]!r}; a login page answers like that: "
            "give --cookies-file or --token-file, and check --host",
            200,
        )
    return value
