"""Replays recorded requests, steps and starts against a server and compares its answers; see recorded/README.md."""

from __future__ import annotations

import base64
import concurrent.futures
import gzip
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format, symbol_database
from server_processes import Launcher, Process, end, free_port, is_open
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (  # noqa: F401 -- registers the messages that records name
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
    session_service_pb2,
)

Record = dict[str, Any]
Answer = dict[str, Any]

FOLDER = Path(__file__).resolve().parent / "recorded"
SETUPS: dict[str, Record] = json.loads((FOLDER / "setups.json").read_text())
RECORDS: list[Record] = [json.loads(line) for line in (FOLDER / "answers.jsonl").read_text().splitlines()]

_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"
_RESPONSES = {
    _PREDICTION + "Predict": "PredictResponse",
    _PREDICTION + "GetModelMetadata": "GetModelMetadataResponse",
    _MODEL + "GetModelStatus": "GetModelStatusResponse",
    _MODEL + "HandleReloadConfigRequest": "ReloadConfigResponse",
}


def two_models(*flags: str) -> Record:
    """Returns the set-up of a server with version 1 of the tagger `ner` and of `aux`, and with more flags."""
    return {
        "tree": {"ner/1": "ner_w1", "aux/1": "aux"},
        "files": {
            "models.config": "model_config_list {"
            ' config { name: "ner" base_path: "{ROOT}/ner" model_platform: "tensorflow" }'
            ' config { name: "aux" base_path: "{ROOT}/aux" model_platform: "tensorflow" } }'
        },
        "flags": [
            "--port={GRPC_PORT}",
            "--rest_api_port={REST_PORT}",
            "--model_config_file={ROOT}/models.config",
            *flags,
        ],
        "ready": [["ner", 1], ["aux", 1]],
    }


class RunningServer:
    """A server on the folders and files of a set-up."""

    def __init__(self, launcher: Launcher, setup: Record, models: Path) -> None:
        self.setup = setup
        self.models = models
        self.top = Path(tempfile.mkdtemp(prefix="serving-"))
        self.root = self.top / "root"
        self.root.mkdir()
        self.log = self.top / "log"
        for destination, source in sorted(setup.get("tree", {}).items()):
            if source == "(empty)":
                (self.root / destination).mkdir(parents=True)
            else:
                shutil.copytree(models / source, self.root / destination)
        self.grpc_port, self.rest_port = free_port(), free_port()
        for name, text in setup.get("files", {}).items():
            (self.root / name).write_text(self.fill(text))
        self.log.touch()
        flags = [self.fill(flag) for flag in setup["flags"]]
        self.process: Process = launcher.start(flags, log=self.log, folder=self.top)
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{self.grpc_port}",
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_retries", 0),
            ],
        )

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        end(self.process)
        shutil.rmtree(self.top, ignore_errors=True)

    def fill(self, text: str) -> str:
        """Puts folder and ports in the places that records leave for them."""
        text = text.replace("{ROOT}", str(self.root)).replace("{GRPC_PORT}", str(self.grpc_port))
        return text.replace("{REST_PORT}", str(self.rest_port))

    def mask(self, text: str) -> str:
        """The inverse of `fill`, for answers."""
        text = text.replace(str(self.root), "{ROOT}")
        for name, port in (("{GRPC_PORT}", self.grpc_port), ("{REST_PORT}", self.rest_port)):
            text = re.sub(rf"(?<!\d){port}(?!\d)", name, text)
        return text

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until_ready(self, timeout: float = 60) -> None:
        """Waits for the ports and for the models that the set-up names."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the server ended: {self.log_text()[-3000:]}"
            if (
                is_open(self.grpc_port)
                and is_open(self.rest_port)
                and all(state_of(self, name, number) == "AVAILABLE" for name, number in self.setup["ready"])
            ):
                return
            time.sleep(0.05)
        raise AssertionError(f"the server is not ready: {self.log_text()[-3000:]}")


def replay_setup(launcher: Launcher, name: str, models: Path) -> dict[str, Answer]:
    """Replays the records of one set-up in the order of their names; returns the answers by name."""
    records = sorted((record for record in RECORDS if record["setup"] == name), key=lambda record: record["name"])
    if name == "startup":
        # Each start is a server of its own; most of the time they wait.
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda record: _startup(launcher, record, models), records))
        return {record["name"]: answer for record, answer in zip(records, answers, strict=True)}
    with RunningServer(launcher, SETUPS[name], models) as server:
        server.wait_until_ready()
        return {record["name"]: execute(server, record) for record in records}


def is_same(record: Record, answer: Answer) -> bool:
    """Whether `answer` is what was recorded, but for what varies from run to run."""
    expected, received = _comparable(record["answer"]), _comparable(answer)
    for key in record.get("varies", {}):
        expected.pop(key, None)
        received.pop(key, None)
    texts = [json.dumps(_normal(value), sort_keys=True) for value in (expected, received)]
    for pattern in record.get("mask", ()):
        texts = [re.sub(pattern, "~", text) for text in texts]
    return texts[0] == texts[1]


def execute(server: RunningServer, record: Record) -> Answer:
    """Sends a record's request, or takes its steps; returns the answer in the form of the file."""
    kinds: dict[str, Callable[[RunningServer, Record], Answer]] = {
        "grpc": _call,
        "grpc_stream": _call,
        "rest": _rest,
        "parallel": _parallel,
        "step": _step,
    }
    return kinds[record["kind"]](server, record)


def state_of(server: RunningServer, model: str, version: int) -> str:
    """Returns the state of a version as the server tells it, "absent" if it does not know it."""
    for status in _model_status(server, model).get("response", {}).get("model_version_status", []):
        if int(status["version"]) == int(version):
            return status["state"]
    return "absent"


# Values of the file.


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8")
    if "b64" in value:
        return base64.b64decode(value["b64"])
    if "repeat" in value:
        return (value.get("head", "") + value["repeat"] * value["count"] + value.get("tail", "")).encode()
    return gzip.compress(_bytes(value["gzip"]), mtime=0)


def _json(data: bytes, limit: int = 4000) -> Any:
    if len(data) > limit:
        digest = hashlib.sha256(data).hexdigest()
        return {"length": len(data), "sha256": digest, "begins": data[:80].decode("utf-8", "replace")}
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(data).decode()}


def _number(value: Any) -> Any:
    if isinstance(value, (bool, int)):
        return value
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return float(value)


_TYPED_FIELDS = {
    "DT_FLOAT": "float_val",
    "DT_DOUBLE": "double_val",
    "DT_INT64": "int64_val",
    "DT_BOOL": "bool_val",
    "DT_UINT64": "uint64_val",
    "DT_HALF": "half_val",
}


def _tensor_proto(tensor: Record) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DataType.Value(tensor["dtype"]))
    if tensor.get("shape") == "unknown_rank":
        proto.tensor_shape.unknown_rank = True
    elif tensor.get("shape") is not None:
        proto.tensor_shape.SetInParent()
        for length in tensor["shape"]:
            proto.tensor_shape.dim.add(size=length)
    values = tensor.get("values", [])
    if "content" in tensor:
        proto.tensor_content = _bytes(tensor["content"])
        return proto
    if tensor["dtype"] == "DT_STRING":
        proto.string_val.extend(_bytes(value) for value in values)
        return proto
    numbers = [float(value) if isinstance(value, str) else value for value in values]
    if tensor.get("form") == "content":
        proto.tensor_content = np.array(numbers, tf.dtypes.as_dtype(proto.dtype).as_numpy_dtype).tobytes()
    else:
        getattr(proto, _TYPED_FIELDS.get(tensor["dtype"], "int_val")).extend(numbers)
    return proto


def _tensor_json(proto: tensor_pb2.TensorProto) -> Record:
    array = tf.make_ndarray(proto)
    fields = [field.name for field, _ in proto.ListFields() if field.name not in ("dtype", "tensor_shape")]
    flat = array.reshape(-1).tolist()
    if proto.dtype == types_pb2.DT_STRING:
        values = [_json(value if isinstance(value, bytes) else value.encode()) for value in flat]
    else:
        values = [_number(value) for value in flat]
    return {
        "dtype": types_pb2.DataType.Name(proto.dtype),
        "shape": list(array.shape),
        "field": "+".join(fields),
        "values": values,
    }


def _message(name: str) -> Any:
    return symbol_database.Default().GetSymbol(name)


def _request_bytes(request: Record) -> bytes:
    if "bytes" in request:
        return _bytes(request["bytes"])
    if "type" in request:
        return json_format.ParseDict(request["json"], _message(request["type"])()).SerializeToString()
    message = predict_pb2.PredictRequest()
    spec = request.get("model_spec")
    if spec is not None:
        message.model_spec.SetInParent()
        message.model_spec.name = spec.get("name", "")
        message.model_spec.signature_name = spec.get("signature_name", "")
        if "version" in spec:
            message.model_spec.version.value = spec["version"]
            message.model_spec.version.SetInParent()
        if "version_label" in spec:
            message.model_spec.version_label = spec["version_label"]
    for name, tensor in request.get("inputs", {}).items():
        message.inputs[name].CopyFrom(_tensor_proto(tensor))
    message.output_filter.extend(request.get("output_filter", []))
    return message.SerializeToString()


def _response_json(method: str, data: bytes) -> Record:
    name = _RESPONSES.get(method)
    if name is None:
        return {"bytes": _json(data)}
    message = _message("tensorflow.serving." + name)()
    message.ParseFromString(data)
    if name != "PredictResponse":
        return json_format.MessageToDict(message, preserving_proto_field_name=True)
    return {
        "model_spec": json_format.MessageToDict(message.model_spec, preserving_proto_field_name=True),
        "outputs": {name: _tensor_json(message.outputs[name]) for name in sorted(message.outputs)},
    }


def _deep(change: Callable[[str], str], value: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _deep(change, item) for key, item in value.items()}
    return [_deep(change, item) for item in value] if isinstance(value, list) else value


# The kinds of records.


def _call(server: RunningServer, record: Record) -> Answer:
    options: Record = {"timeout": record.get("timeout_s", 60)}
    if record.get("metadata"):
        options["metadata"] = [
            (key, _bytes(value) if key.endswith("-bin") else value) for key, value in record["metadata"]
        ]
    if record.get("compression"):
        options["compression"] = getattr(grpc.Compression, record["compression"].capitalize())
    data = _request_bytes(_deep(server.fill, record["request"]))
    try:
        if record["kind"] == "grpc_stream":
            stream = server.channel.stream_stream(record["method"])(iter([data]), **options)
            first = next(stream)
            stream.cancel()
            return {"code": "OK", "details": "", "messages": [_json(first)]}
        response, call = server.channel.unary_unary(record["method"]).with_call(data, **options)
    except grpc.RpcError as error:
        return {"code": error.code().name, "details": server.mask(error.details() or "")}
    answer = {
        "code": call.code().name,
        "details": call.details() or "",
        "response": _response_json(record["method"], response),
    }
    return _deep(server.mask, answer)


def _rest(server: RunningServer, record: Record) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=record.get("timeout_s", 60))
    body = _bytes(_deep(server.fill, record["body"])) if "body" in record else None
    connection.putrequest(record["method"], record["path"], skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", "localhost")
    for name, value in record.get("headers", {}).items():
        connection.putheader(name, value)
    if body is not None and "Content-Length" not in record.get("headers", {}):
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    if body:
        connection.send(body)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    headers = {name.title(): value for name, value in response.getheaders()}
    compared = {key: headers[key] for key in ("Content-Type", "Content-Length", "Connection") if key in headers}
    answer = {"status": response.status, "headers": compared, "body": _json(data, 40000)}
    if isinstance(answer["body"], dict) and "sha256" in answer["body"]:
        # The order of members varies: the digest is that of the sorted document, numbers as written.
        document = json.dumps(_parsed(data), sort_keys=True).encode()
        answer["body"] = {"length": len(data), "json_sha256": hashlib.sha256(document).hexdigest()}
    return _deep(server.mask, answer)


def _parsed(text: str | bytes) -> Any:
    return json.loads(text, parse_float=lambda number: f"float {number}", parse_constant=lambda name: f"const {name}")


def _parallel(server: RunningServer, record: Record) -> Answer:
    requests = [{"kind": "grpc", **request} for request in record["requests"]]
    jobs = requests * record.get("times", 1)
    with concurrent.futures.ThreadPoolExecutor(record.get("threads", 8)) as pool:
        answers = list(pool.map(lambda job: execute(server, job), jobs))
    per_request = []
    for position in range(len(requests)):
        different = {json.dumps(_normal(answer), sort_keys=True) for answer in answers[position :: len(requests)]}
        per_request.append([json.loads(text) for text in sorted(different)])
    return {"per_request": per_request}


def _model_status(server: RunningServer, model: str) -> Answer:
    request = {"type": "tensorflow.serving.GetModelStatusRequest", "json": {"model_spec": {"name": model}}}
    answer = _call(server, {"kind": "grpc", "method": _MODEL + "GetModelStatus", "timeout_s": 5, "request": request})
    if answer["code"] == "OK":
        versions = answer["response"].get("model_version_status", [])
        answer["response"]["model_version_status"] = sorted(versions, key=lambda version: -int(version["version"]))
    return answer


_NOISE = r"oneDNN custom|cuda|cuFFT|cuDNN|cuBLAS|CPU instructions|To enable the following|Loaded op library|TF-TRT"


def _log_lines(server: RunningServer, pattern: str, limit: int, since: int = 0) -> list[str]:
    lines = []
    for line in server.log_text()[since:].split("\n"):
        if re.search(pattern, line) and not re.search(_NOISE + "|max_num_retries: 0", line):
            line = re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: ([IWEF]) \S+\] ", r"\1 ", line)
            line = re.sub(r"\d+ microseconds", "N microseconds", line)
            lines.append(server.mask(re.sub(r"\(microseconds\): \d+", "(microseconds): N", line)))
    return lines[:limit]


def _step(server: RunningServer, record: Record) -> Answer:
    observed = []
    mark = len(server.log_text())
    for action in record["actions"]:
        seen = _act(server, action, mark)
        if seen is not None:
            observed.append({action["do"]: seen})
    return {"observed": observed}


def _act(server: RunningServer, action: Record, mark: int) -> Any:
    started = time.monotonic()
    path = server.root / action.get("path", "")

    def within(seconds: float) -> bool:
        return time.monotonic() - started < action.get("within_s", seconds)

    match action["do"]:
        case "put_by_rename":
            folder = Path(tempfile.mkdtemp(dir=server.top))
            shutil.copytree(server.models / action["from"], folder / "version")
            (folder / "version").rename(path)
        case "mkdir":
            path.mkdir(parents=True, exist_ok=True)
        case "fill":
            shutil.copytree(server.models / action["from"], path, dirs_exist_ok=True)
        case "remove":
            folder = Path(tempfile.mkdtemp(dir=server.top))
            path.rename(folder / "version")
            shutil.rmtree(folder)
        case "rename":
            path.rename(server.root / action["to"])
        case "write":
            new = path.with_suffix(".new")
            new.write_text(server.fill(action["text"]))
            new.rename(path)
        case "sleep":
            time.sleep(action["seconds"])
        case "wait_state":
            while within(20):
                if state_of(server, action["model"], action["version"]) == action["state"]:
                    return action["state"]
                time.sleep(0.05)
            return "not reached"
        case "wait_log":
            lines: list[str] = []
            while not lines and within(20):
                lines = _log_lines(server, action["match"], action.get("limit", 1), mark if action.get("new") else 0)
                time.sleep(0.05)
            return lines
        case "log":
            return _log_lines(server, action["match"], action.get("limit", 5))
        case "status":
            return _model_status(server, action["model"])
        case "call":
            return _call(server, {**action, "kind": "grpc"})
        case "signal":
            os.kill(server.process.pid, getattr(signal, action["signal"]))
        case "wait_exit":
            while server.process.poll() is None and within(10):
                time.sleep(0.02)
            status = server.process.poll()
            return "still running" if status is None else status
        case other:
            raise ValueError(other)
    return None


def _startup(launcher: Launcher, record: Record, models: Path) -> Answer:
    busy = None
    setup = record
    if record.get("port_in_use"):
        busy = socket.socket()
        busy.bind(("0.0.0.0", 0))
        busy.listen(1)
        busy_port = str(busy.getsockname()[1])
        setup = {**record, "flags": [flag.replace("{BUSY_PORT}", busy_port) for flag in record["flags"]]}
    with RunningServer(launcher, setup, models) as server:
        deadline = time.monotonic() + record.get("wait_s", 15)
        status = None
        while time.monotonic() < deadline and status is None:
            status = server.process.poll()
            if status is None and record.get("until_open") and is_open(server.grpc_port):
                time.sleep(record.get("settle_s", 0.5))
                status = server.process.poll()
                break
            time.sleep(0.05)
        lines = _log_lines(server, record["log_match"], record.get("limit", 3))
        answer = {
            "exit_code": "still running" if status is None else status,
            "grpc_open": is_open(server.grpc_port),
            "rest_open": is_open(server.rest_port),
            "log": [line.replace(busy_port, "{BUSY_PORT}") for line in lines] if busy else lines,
        }
    if busy:
        busy.close()
    return answer


# Comparison.


def _comparable(answer: Answer) -> Answer:
    """Leaves out what belongs to the place or the program rather than to the answer."""
    answer = dict(answer)
    if "{ROOT}" in str(answer.get("body")):
        headers = answer["headers"]
        answer["headers"] = {name: headers[name] for name in headers if name != "Content-Length"}
    if "exit_code" in answer:
        # Usage, and lines of libraries, which have no level in front.
        told = ("Failed to start", "unknown argument", "I ", "W ", "E ")
        answer["log"] = [line for line in answer["log"] if line.startswith(told)]
    if "per_request" in answer:
        # How many requests at once are refused depends on the machine's CPUs.
        refused = "Server Threadpool Exhausted"
        answer["per_request"] = [
            [each for each in different if each.get("details") != refused] for different in answer["per_request"]
        ]
    return answer


def _normal_text(text: str) -> str:
    text = re.sub(r"(__inference_[A-Za-z_]*?)_?\d+\b", r"\1_N", text)

    def in_order(match: re.Match[str]) -> str:
        return "{" + ",".join(sorted(match[1].split(","))) + "}"

    return re.sub(r"\{([^{}\[\]\"]*,[^{}\[\]\"]*)\}", in_order, text)


def _normal(value: Any) -> Any:
    """Leaves out what differs between two runs of one server: order of members, function numbers, waiting times."""
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, str):
        return _normal_text(value)
    if not isinstance(value, dict):
        return value
    normal = {}
    for key, item in value.items():
        if key in ("waited_s", "trailing_metadata", "metadata") and isinstance(item, list):
            continue
        if key == "body" and isinstance(item, str):
            try:
                item = ["json", _parsed(item)]
            except ValueError:
                item = _normal_text(item)
        normal[key] = _normal(item)
    return normal
