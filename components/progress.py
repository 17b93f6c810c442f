"""Progress for people: components report through one logger, and whoever runs them decides where it is shown."""

from __future__ import annotations

import logging

_logger = logging.getLogger("fusion_ner.progress")
_logger.setLevel(logging.INFO)


def report(message: str) -> None:
    """Reports one line of progress: to the terminal in a local run, to the log of the task on Kubeflow."""
    _logger.info(message)


def show_on(handler: logging.Handler) -> None:
    """Shows progress on `handler` from now on, and there only."""
    _logger.handlers = [handler]
    _logger.propagate = False
