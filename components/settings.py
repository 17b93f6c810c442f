"""Settings as frozen dataclasses, read from mappings strictly: unknown keys and wrong types are refused."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

SettingsType = TypeVar("SettingsType")


class SettingsError(ValueError):
    """Raised when a setting is unknown, missing, of the wrong type or impossible; the message names its path."""


def parse_settings(settings_type: type[SettingsType], values: Mapping[str, Any] | None, path: str = "") -> SettingsType:
    """Builds the dataclass `settings_type` from `values`, recursively.

    Args:
        settings_type: a dataclass whose fields are str, int, float, bool, tuples of these, mappings from str to
            these, optional values or other such dataclasses.
        values: what the user wrote, as read from YAML or JSON; None stands for an empty mapping.
        path: where `values` stands, for messages: "trainer" or "trainer.encoder".

    Raises:
        SettingsError: with the path of the setting, what was expected and what came.

    Example:
        >>> parse_settings(TrainerSettings, {"epochs": 3}).epochs
        3
    """
    where = path or "the configuration"
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where}: expected a mapping of settings; received {values!r}")
    fields = {field.name: field for field in dataclasses.fields(settings_type) if field.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known settings: {', '.join(sorted(fields))}."
            raise SettingsError(f"{_join(path, str(key))}: unknown setting.{hint}")
    annotations = typing.get_type_hints(settings_type)
    arguments = {
        name: _parse_value(annotations[name], values[name], _join(path, name)) for name in fields if name in values
    }
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise SettingsError(f"{_join(path, name)}: this setting is required and missing")
    try:
        return settings_type(**arguments)
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error


def settings_to_json(settings: Any) -> dict[str, Any]:
    """Returns `settings` as plain JSON values, the inverse of `parse_settings`."""
    return dataclasses.asdict(settings)


def check(condition: bool, name: str, expected: str, received: object) -> None:
    """Raises SettingsError unless `condition` holds; for `__post_init__` of settings classes.

    Example:
        >>> check(epochs > 0, "epochs", "a positive number", epochs)
    """
    if not condition:
        raise SettingsError(f"{name}: expected {expected}; received {received!r}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _parse_value(annotation: Any, value: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (annotation,) = (argument for argument in arguments if argument is not type(None))
        return _parse_value(annotation, value, path)
    if origin is typing.Literal:
        if value not in arguments:
            raise SettingsError(f"{path}: expected one of {', '.join(map(repr, arguments))}; received {value!r}")
        return value
    if dataclasses.is_dataclass(annotation):
        return parse_settings(annotation, value, path)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise SettingsError(f"{path}: expected a list; received {value!r}")
        return tuple(_parse_value(arguments[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(value, Mapping):
            raise SettingsError(f"{path}: expected a mapping; received {value!r}")
        return {str(key): _parse_value(arguments[1], item, _join(path, str(key))) for key, item in value.items()}
    if annotation is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if annotation is float and isinstance(value, str):
        # YAML 1.1 reads 1e-4 as a string, and people write learning rates that way.
        try:
            return float(value)
        except ValueError:
            pass
    if annotation in (str, int, bool) and type(value) is annotation:
        return value
    if isinstance(annotation, type):
        raise SettingsError(f"{path}: expected {annotation.__name__}; received {value!r}")
    raise TypeError(f"{path}: settings cannot have the type {annotation!r}")
