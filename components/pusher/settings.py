"""Settings of the pusher: how many pushed versions stay."""

from __future__ import annotations

import dataclasses

from components.settings import check


@dataclasses.dataclass(frozen=True)
class PusherSettings:
    """How pushed versions are kept.

    Args:
        keep_versions: how many of the newest versions stay in the serving directory after a push; None keeps all. With
            2 or more a server that is still loading the new version keeps the one it serves.

    Raises:
        SettingsError: fewer than one version would stay.
    """

    keep_versions: int | None = None

    def __post_init__(self) -> None:
        kept = self.keep_versions
        check(kept is None or kept >= 1, "keep_versions", "a number from 1 on, or none to keep all", kept)
