"""Loads and unloads versions while requests run: what TensorFlow Serving's AspiredVersionsManager does.

One thread looks at the folders, then takes one step at a time: it loads a new version while the old one serves, swaps
them in one assignment, and unloads the old one when its last request has finished (availability-preserving policy).
Loads run one after another, as with TensorFlow Serving's default `num_load_threads`: a version that is being retried
holds up the versions of all models.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from serving.embedded.status import StatusError
from serving.embedded.versions import ServedModel, aspired_versions
from serving.embedded.workers import Worker

logger = logging.getLogger(__name__)

_TICK_SECONDS = 0.05


@dataclass(frozen=True)
class ManagerOptions:
    """How versions are found and loaded; names and defaults of tensorflow_model_server's flags."""

    file_system_poll_wait_seconds: float = 1
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000


@dataclass(frozen=True)
class VersionState:
    """State of one version as GetModelStatus tells it: START, LOADING, AVAILABLE, UNLOADING or END, and the error."""

    state: str
    error: StatusError | None = None


@dataclass
class _Servable:
    """One version under management. `aspired` says whether the source still wants it."""

    path: Path
    aspired: bool = True
    state: str = "NEW"  # NEW, READY, UNLOADING, DISABLED, ERROR
    worker: Worker | None = None
    users: int = 0
    restarts: bool = False  # its process ended unasked, and it is being loaded again


@dataclass
class _Stream:
    """All versions of one model name that are under management, and the source's latest wish not yet applied."""

    servables: dict[int, _Servable] = field(default_factory=dict)
    pending: dict[int, Path] | None = None


class ModelManager:
    """Keeps the configured models served.

    Args:
        models: the initial list.
        load: makes a Worker of a version folder, warm-up included; raises StatusError.
        options: polling and retries.
    """

    def __init__(self, models: Iterable[ServedModel], load: Callable[[Path], Worker], options: ManagerOptions) -> None:
        self._models = {model.name: model for model in models}
        self._load = load
        self._options = options
        self._streams: dict[str, _Stream] = {}
        self._states: dict[str, dict[int, VersionState]] = {}
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._poll_now = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model-manager", daemon=True)

    def start(self) -> None:
        """Starts to look for versions and to load them; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the manager's thread; models stay as they are, for requests that still run."""
        self._stopping.set()
        self._poll_now.set()
        with self._changed:
            self._changed.notify_all()
        # A load under way cannot be broken off; the process ends without it.
        self._thread.join(timeout=1)

    def models(self) -> dict[str, ServedModel]:
        """Returns the configured models by name."""
        with self._lock:
            return dict(self._models)

    def wait_until_loaded(self, names: Iterable[str], what: str) -> None:
        """Waits until the highest wanted version of each of `names` is available, for ever if there is none to load.

        Raises:
            StatusError: UNKNOWN with the errors of those that failed; CANCELLED when the manager was stopped.
        """
        waiting = sorted(names)
        failed: list[str] = []
        with self._changed:
            while waiting and not self._stopping.is_set():
                for name in list(waiting):
                    state = self._wanted_state(name)
                    if state is None:
                        continue
                    version, state_now = state
                    if state_now.state == "AVAILABLE":
                        waiting.remove(name)
                    elif state_now.error is not None:
                        waiting.remove(name)
                        failed.append(f"{{{{name: {name} version: {version}}} due to error: {state_now.error}}}, ")
                if waiting:
                    self._changed.wait(1)
        if failed:
            raise StatusError("UNKNOWN", f"{len(failed)} {what}(s) did not become available: {{{''.join(failed)}}}")
        if waiting:
            raise StatusError("CANCELLED", "the server is stopping")

    def set_models(self, models: Iterable[ServedModel]) -> None:
        """Replaces the configured list: models that are not in it are unloaded, new ones loaded, at the next look."""
        with self._lock:
            self._models = {model.name: model for model in models}
        self._poll_now.set()

    @contextlib.contextmanager
    def acquire(self, name: str, version: int | None) -> Iterator[tuple[int, Worker]]:
        """Lends an available version, the highest if none is named; it is not unloaded before it is given back.

        Raises:
            StatusError: NOT_FOUND, if it is not available; UNAVAILABLE, if it is about to be so again.
        """
        with self._lock:
            stream = self._streams.get(name)
            ready = {
                number: servable
                for number, servable in (stream.servables.items() if stream else ())
                if servable.state == "READY"
            }
            chosen = max(ready, default=None) if version is None else version
            servable = ready.get(chosen) if chosen is not None else None
            if servable is None or servable.worker is None or chosen is None:
                restarting = {number for number, item in (stream.servables.items() if stream else ()) if item.restarts}
                if restarting if version is None else version in restarting:
                    raise StatusError("UNAVAILABLE", "The process of the version ended; it is being loaded again")
                wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise StatusError("NOT_FOUND", f"Servable not found for request: {wanted}")
            servable.users += 1
        try:
            yield chosen, servable.worker
        finally:
            with self._lock:
                servable.users -= 1

    def states(self, name: str) -> dict[int, VersionState]:
        """Returns the states of all versions of a model that this process has seen, highest first."""
        with self._lock:
            return dict(sorted(self._states.get(name, {}).items(), reverse=True))

    # The manager's thread.

    def _run(self) -> None:
        next_poll = 0.0
        interval = self._options.file_system_poll_wait_seconds
        while not self._stopping.is_set():
            if time.monotonic() >= next_poll or self._poll_now.is_set():
                self._poll_now.clear()
                # 0 means: look once; a reload looks again.
                next_poll = time.monotonic() + interval if interval > 0 else float("inf")
                self._poll()
            try:
                acted = self._step()
            except Exception:
                # A defect here must not end the thread in silence: the server would never swap again.
                logger.exception("Managing the versions failed")
                acted = False
            if not acted:
                self._poll_now.wait(_TICK_SECONDS)

    def _poll(self) -> None:
        wanted: dict[str, dict[int, Path]] = {}
        with self._lock:
            models, known = dict(self._models), set(self._streams)
        for name, model in models.items():
            try:
                wanted[name] = aspired_versions(model)
            except OSError:
                # As in TensorFlow Serving, one missing base path leaves every model as it is until it is back.
                logger.error(
                    "FileSystemStoragePathSource encountered a filesystem access error: "
                    "Could not find base path %s for servable %s with error NOT_FOUND: %s not found",
                    model.base_path,
                    name,
                    model.base_path,
                )
                return
        for name in known - set(models):
            wanted[name] = {}
        with self._lock:
            for name, versions in wanted.items():
                self._streams.setdefault(name, _Stream()).pending = versions

    def _step(self) -> bool:
        """Takes the steps that are due; returns whether there was one."""
        acted = False
        for name in sorted(self._streams):
            with self._lock:
                stream = self._streams[name]
                drained = self._drained(stream)
            for version, servable in drained.items():
                self._unload_version(name, version, servable)
            with self._lock:
                self._restart_ended(name, stream)
                self._forget_ended(stream)
                self._apply_pending(name, stream)
                self._retire_one(name, stream)
                to_load = max(
                    (version for version, servable in stream.servables.items() if servable.state == "NEW"), default=None
                )
            if to_load is not None and not self._stopping.is_set():
                self._load_version(name, to_load, stream.servables[to_load])
                acted = True
        return acted

    def _drained(self, stream: _Stream) -> dict[int, _Servable]:
        return {
            version: servable
            for version, servable in stream.servables.items()
            if servable.state == "UNLOADING" and servable.users == 0
        }

    def _unload_version(self, name: str, version: int, servable: _Servable) -> None:
        # Outside the lock: freeing a large model takes a while, and requests for the new version need the lock.
        if servable.worker is not None:
            servable.worker.close()
        with self._lock:
            servable.worker, servable.state = None, "DISABLED"
            self._set_state(name, version, VersionState("END"))
        logger.info("Done unloading servable version {name: %s version: %d}", name, version)

    def _restart_ended(self, name: str, stream: _Stream) -> None:
        """Has versions loaded again whose process ended unasked, as a supervisor would start a whole server again."""
        for version, servable in stream.servables.items():
            if servable.state != "READY" or servable.worker is None or servable.worker.ended is None:
                continue
            logger.error("Servable version {name: %s version: %d}: %s", name, version, servable.worker.ended)
            servable.worker, servable.state, servable.restarts = None, "NEW", True
            self._set_state(name, version, VersionState("START"))

    def _forget_ended(self, stream: _Stream) -> None:
        for version, servable in list(stream.servables.items()):
            if servable.state in ("NEW", "DISABLED", "ERROR") and not servable.aspired:
                del stream.servables[version]

    def _apply_pending(self, name: str, stream: _Stream) -> None:
        wanted = stream.pending
        if wanted is None:
            return
        if any(version in stream.servables and not stream.servables[version].aspired for version in wanted):
            # A version that is wanted again must first have ended. This is also why a number that failed once stays
            # failed: the old version, still serving, is wanted again and never ends, so the wish stays pending.
            return
        stream.pending = None
        for version, servable in stream.servables.items():
            servable.aspired = version in wanted
        for version, path in wanted.items():
            if version not in stream.servables:
                stream.servables[version] = _Servable(path)
                self._set_state(name, version, VersionState("START"))

    def _retire_one(self, name: str, stream: _Stream) -> None:
        aspired = [servable for servable in stream.servables.values() if servable.aspired]
        if aspired and not any(servable.state == "READY" for servable in aspired):
            return
        for version, servable in sorted(stream.servables.items()):
            if not servable.aspired and servable.state == "READY":
                servable.state = "UNLOADING"
                self._set_state(name, version, VersionState("UNLOADING"))
                return

    def _load_version(self, name: str, version: int, servable: _Servable) -> None:
        logger.info("Loading servable: {name: %s version: %d} from %s", name, version, servable.path)
        self._set_state(name, version, VersionState("LOADING"))
        retries = self._options.max_num_load_retries
        for attempt in range(retries + 1):
            if attempt > 0:
                if self._stopping.wait(self._options.load_retry_interval_micros / 1e6):
                    return
                logger.info("Retrying of Loading servable: {name: %s version: %d} retry: %d", name, version, attempt)
            started = time.monotonic()
            try:
                worker = self._load(servable.path)
            except StatusError as caught:
                error = caught
                logger.error("Loading servable: {name: %s version: %d} failed: %s", name, version, error)
                continue
            except Exception as caught:
                error = StatusError("INTERNAL", f"{type(caught).__name__}: {caught}")
                logger.exception("Loading servable: {name: %s version: %d} failed", name, version)
                continue
            with self._lock:
                servable.worker, servable.state, servable.restarts = worker, "READY", False
                self._set_state(name, version, VersionState("AVAILABLE"))
            logger.info(
                "Successfully loaded servable version {name: %s version: %d} in %.2f s",
                name,
                version,
                time.monotonic() - started,
            )
            return
        if retries:
            logger.info(
                "Retrying of Loading servable: {name: %s version: %d} exhausted max_num_retries: %d",
                name,
                version,
                retries,
            )
        with self._lock:
            servable.state, servable.restarts = "ERROR", False
            self._set_state(name, version, VersionState("END", error))

    def _set_state(self, name: str, version: int, state: VersionState) -> None:
        with self._changed:
            self._states.setdefault(name, {})[version] = state
            self._changed.notify_all()

    def _wanted_state(self, name: str) -> tuple[int, VersionState] | None:
        stream = self._streams.get(name)
        wanted = [version for version, servable in stream.servables.items() if servable.aspired] if stream else []
        if not wanted:
            return None
        return max(wanted), self._states[name][max(wanted)]
