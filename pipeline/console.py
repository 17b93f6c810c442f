"""The terminal and the log of a run: people see progress, the libraries' output goes to a file."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from components import progress


@contextlib.contextmanager
def console_with_log(log_path: Path) -> Iterator[Console]:
    """Yields a console on the terminal's standard error while file descriptors 1 and 2 go to `log_path`.

    TensorFlow, Beam and their C++ parts write hundreds of lines to both descriptors, below Python's reach; therefore
    the descriptors themselves are redirected. Progress that components report appears on the console and in the log.

    Args:
        log_path: appended to; its folder exists.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved_output, saved_error = os.dup(1), os.dup(2)
    with log_path.open("ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    terminal = os.fdopen(os.dup(saved_error), "w", buffering=1, encoding="utf-8", errors="replace")
    console = Console(file=terminal, highlight=False, soft_wrap=True)
    handler = _ConsoleHandler(console)
    progress.show_on(handler)
    try:
        yield console
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(saved_output, 1)
        os.dup2(saved_error, 2)
        os.close(saved_output)
        os.close(saved_error)
        progress.show_on(logging.StreamHandler())


class _ConsoleHandler(logging.Handler):
    """Prints progress on the console, indented below its component, and into the log."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        self._console.print(f"    {message}", markup=False)
        print(message, file=sys.stderr, flush=True)
