"""The verdict of an infra validation, read back from its artifact."""

from __future__ import annotations

import dataclasses
import json
import pathlib

from components.infra_validator.executor import REPORT_FILE, InfraValidationError


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Which server was tried, and why the model was refused; no refusal is a blessing."""

    server: str
    refusals: tuple[str, ...]

    @property
    def blessed(self) -> bool:
        return not self.refusals


def read_verdict(blessing_uri: str) -> Verdict:
    """Reads the verdict from the folder of an InfraBlessing artifact.

    Raises:
        InfraValidationError: the folder holds none.
    """
    try:
        values = json.loads((pathlib.Path(blessing_uri) / REPORT_FILE).read_text(encoding="utf-8"))
        return Verdict(values["server"], tuple(values["refusals"]))
    except (OSError, ValueError, KeyError) as error:
        raise InfraValidationError(
            f"{blessing_uri} does not hold the verdict of an infra validation: {error}"
        ) from error
