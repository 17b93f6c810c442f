"""The exit handler: reports the end of a run, whether it succeeded or failed."""

# No postponed annotations: TFX reads the types of the function.
import json
import urllib.request

from absl import logging
from tfx.dsl.component.experimental.annotations import Parameter
from tfx.dsl.component.experimental.decorators import component

_SUCCESS = ("COMPLETE", "CACHED", "SUCCEEDED")
_DEADLINE_SECONDS = 10


@component
def report_end(
    final_status: Parameter[str], run_name: Parameter[str], run_id: Parameter[str], notify_url: Parameter[str]
) -> None:
    """Prints how the run ended as one line of JSON, and posts it to `notify_url` unless that is empty.

    Raises:
        OSError: nobody took the notification.
    """
    report = json.dumps(summary(final_status, run_name, run_id), sort_keys=True)
    # On the standard output, where the pod's log is read, whatever the level of logging.
    print(report, flush=True)
    if notify_url:
        request = urllib.request.Request(
            notify_url, data=report.encode(), headers={"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=_DEADLINE_SECONDS) as response:
            logging.info("%s took the report with status %s", notify_url, response.status)


def summary(final_status: str, run_name: str, run_id: str) -> dict[str, str | bool]:
    """Returns what is reported about a run.

    Args:
        final_status: JSON of the backend's PipelineTaskFinalStatus.
        run_name: the name of the run.
        run_id: its id.
    """
    status = json.loads(final_status)
    state = status.get("state", "UNKNOWN")
    error = status.get("error") or {}
    return {
        "run": run_name,
        "run_id": run_id,
        "state": state,
        "succeeded": state in _SUCCESS,
        "error": str(error.get("message", "")),
    }
