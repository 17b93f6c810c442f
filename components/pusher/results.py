"""What a push did, as it stands in the PushedModel artifact: the version and its place, or why nothing was pushed."""

from __future__ import annotations

import dataclasses
import json
import pathlib

_FILE = "push.json"


class PushResultError(RuntimeError):
    """Raised when a PushedModel artifact does not say what happened."""


@dataclasses.dataclass(frozen=True)
class PushOutcome:
    """The outcome of a push.

    Args:
        version: the version that was published, or None.
        destination: its folder, or None.
        refusals: why nothing was published, one sentence each.
    """

    version: int | None = None
    destination: str | None = None
    refusals: tuple[str, ...] = ()

    @property
    def pushed(self) -> bool:
        return self.version is not None


def write_outcome(artifact_uri: str, outcome: PushOutcome) -> None:
    """Leaves the outcome in the folder of a PushedModel artifact."""
    folder = pathlib.Path(artifact_uri)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FILE).write_text(json.dumps(dataclasses.asdict(outcome), indent=2) + "\n", encoding="utf-8")


def read_outcome(artifact_uri: str) -> PushOutcome:
    """Reads what a push did from the folder of its PushedModel artifact.

    Raises:
        PushResultError: the folder does not say.
    """
    try:
        values = json.loads((pathlib.Path(artifact_uri) / _FILE).read_text(encoding="utf-8"))
        return PushOutcome(values["version"], values["destination"], tuple(values["refusals"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PushResultError(f"{artifact_uri} does not hold the outcome of a push: {error}") from error
