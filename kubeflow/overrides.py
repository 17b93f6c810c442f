"""Runtime parameters that reach inside a component's JSON settings.

A component receives its settings as JSON in one parameter, as `custom_config`. A runtime parameter that changes one of
them travels as a component parameter of its own, whose name says where it belongs: `custom_config__epochs`. The entry
point merges it before the component sees its parameters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# A double underscore, because names of parameters have single ones, and the backend is asked for nothing unusual.
SEPARATOR = "__"
# Which span to read, -1 for the newest: one number that stands for TFX's two-sided range.
SPAN = f"range_config{SEPARATOR}span"
NEWEST_SPAN = -1


class OverrideError(ValueError):
    """Raised for an override that does not fit the settings that it is meant for."""


def override_name(parameter: str, *place: str | int) -> str:
    """Returns the name of a component parameter that overrides one value in the JSON of `parameter`.

    Example:
        >>> override_name("input_config", "splits", 0, "pattern")
        'input_config__splits__0__pattern'
    """
    return SEPARATOR.join([parameter, *map(str, place)])


def merge_overrides(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the component's own parameters with the overrides merged into them.

    Args:
        parameters: values of the component's parameters, overrides among them.

    Raises:
        OverrideError: there are no such settings, or the place is not among them.

    Example:
        >>> merge_overrides({"custom_config": '{"epochs": 3}', "custom_config__epochs": 5})
        {'custom_config': '{"epochs": 5}'}
    """
    merged = {name: value for name, value in parameters.items() if SEPARATOR not in name}
    for name, value in parameters.items():
        if name == SPAN:
            merged |= _range_of(value)
        elif SEPARATOR in name:
            parameter, _, place = name.partition(SEPARATOR)
            settings = _settings(merged, parameter, name)
            read(settings, place, name)
            _write(settings, place, value)
            merged[parameter] = json.dumps(settings, sort_keys=True)
    return merged


def read(settings: Any, place: str, name: str) -> Any:
    """Returns the value at `place` ("splits__0__pattern") of parsed JSON; `name` stands in messages.

    Raises:
        OverrideError: there is no such place.
    """
    value = settings
    for part in place.split(SEPARATOR):
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            known = sorted(value) if isinstance(value, dict) else type(value).__name__
            raise OverrideError(f"{name}: the settings have no {part!r} there; known: {known}")
    return value


def _range_of(span: int) -> dict[str, str]:
    if span == NEWEST_SPAN:
        return {}
    if span < 0:
        raise OverrideError(f"span: expected a span number, or {NEWEST_SPAN} for the newest; received {span}")
    numbers = {"start_span_number": span, "end_span_number": span}
    return {"range_config": json.dumps({"static_range": numbers})}


def _settings(parameters: Mapping[str, Any], parameter: str, name: str) -> Any:
    if parameter not in parameters:
        raise OverrideError(f"{name}: the component has no parameter {parameter!r}")
    try:
        return json.loads(parameters[parameter])
    except (TypeError, ValueError) as error:
        raise OverrideError(f"{name}: the parameter {parameter!r} is not JSON") from error


def _write(settings: Any, place: str, value: Any) -> None:
    *parents, last = place.split(SEPARATOR)
    for part in parents:
        settings = settings[int(part)] if isinstance(settings, list) else settings[part]
    settings[int(last) if isinstance(settings, list) else last] = value
