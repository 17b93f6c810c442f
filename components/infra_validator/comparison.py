"""Whether a server's answer is the model's: names, shapes, types and values of all outputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def difference(expected: Mapping[str, np.ndarray], received: Mapping[str, np.ndarray], tolerance: float) -> str | None:
    """Returns the first difference between the outputs of the model and those of a server in words, or None.

    Args:
        expected: what the model returns in this process, by the name of the output.
        received: what the server returned.
        tolerance: how far floats may differ, absolute and relative to the expected value; all else has to be equal.

    Example:
        >>> difference({"entity_count": np.array([1, 2])}, {"entity_count": np.array([1, 3])}, 1e-4)
        'entity_count[1]: the server says 3, the model 2'
    """
    if set(expected) != set(received):
        return f"the server returns the outputs {sorted(received)}, the model {sorted(expected)}"
    for name in sorted(expected):
        wanted, got = expected[name], received[name]
        if wanted.dtype != got.dtype or wanted.shape != got.shape:
            return (
                f"{name}: the server returns {got.dtype} of shape {list(got.shape)}, "
                f"the model {wanted.dtype} of shape {list(wanted.shape)}"
            )
        if wanted.dtype.kind == "f":
            equal = np.isclose(got, wanted, rtol=tolerance, atol=tolerance, equal_nan=True)
        else:
            equal = np.asarray(got == wanted)
        if not equal.all():
            place = tuple(int(index) for index in np.argwhere(~equal)[0])
            where = "".join(f"[{index}]" for index in place)
            return f"{name}{where}: the server says {_shown(got[place])}, the model {_shown(wanted[place])}"
    return None


def _shown(value: object) -> str:
    return repr(value.decode("utf-8", "replace")) if isinstance(value, bytes) else str(value)
