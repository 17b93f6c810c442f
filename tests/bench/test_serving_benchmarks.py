"""The parts of the benchmarks of serving that can be wrong without anybody seeing it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from bench.measuring import Load, percentile
from bench.serving_hostile import _grpc_kinds, _portions
from bench.serving_swaps import print_kill, print_swaps


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        pytest.param([4.0, 1.0, 3.0, 2.0], 0.5, 2.0, id="median of an even number"),
        pytest.param([3.0, 1.0, 2.0], 0.5, 2.0, id="median of an odd number"),
        pytest.param(range(1, 101), 0.99, 99, id="p99 of 100"),
        pytest.param([7.0], 0.99, 7.0, id="one value"),
    ],
)
def test_percentile(values: Sequence[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        pytest.param([(second / 10, 0.1) for second in range(100)], 10.0, id="one client, ten a second"),
        # Requests that begin at 0, 1, .. 10 and take 0.5: eight are answered between 1 and 9.
        pytest.param([(float(second), 0.5) for second in range(11)], 1.0, id="a pause between requests"),
        # The last two answers come after the time in which requests began.
        pytest.param([(0.0, 5.0), (0.0, 5.0), (10.0, 9.0), (10.0, 9.0)], 2 / 8, id="answers after the end"),
    ],
)
def test_throughput_counts_while_all_clients_are_busy(requests: list[tuple[float, float]], expected: float) -> None:
    assert Load(tuple(requests), {}, 0).per_second == pytest.approx(expected, rel=0.02)


def test_requests_belong_to_the_swap_they_overlap(capsys: pytest.CaptureFixture[str]) -> None:
    load = Load(((0.0, 0.1), (0.95, 0.1), (1.5, 0.4), (2.5, 0.1)), {}, 0)
    print_swaps(load, [(1.0, 1.8, 2.0)], per_second=1.0)
    printed = capsys.readouterr().out
    assert "| steady | 2 | 100.0 | 100.0 | 100.0 |" in printed
    assert "| during a swap | 2 | 100.0 | 400.0 | 400.0 |" in printed
    assert "steady: 4.00" in printed


def test_failures_around_a_kill_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    print_kill(Load(((0.0, 0.1), (0.9, 5.0)), {"DeadlineExceeded": 1}, 3), killed=1.0, wanted=3)
    printed = capsys.readouterr().out
    assert "| requests wanted, answered | 3, 2 |" in printed
    assert "| failures that callers saw | 1 {'DeadlineExceeded': 1} |" in printed
    assert "| first answer after the kill, seconds | 4.9 |" in printed


def test_hostile_requests_are_drawn_the_same_for_the_same_seed() -> None:
    def drawn(seed: int) -> list[bytes]:
        sent: list[bytes] = []
        for kind in _grpc_kinds(lambda data, timeout: sent.append(data)).values():
            kind(random.Random(seed))
        return sent

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len(drawn(1)) > 20


def test_portions_make_up_the_whole() -> None:
    assert sum(size for _, size in _portions(1005)) == 1005
