"""What the benchmarks of serving share: texts, the process of the clients, percentiles, the machine."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.example_gen.reading import read_annotated_text

MEMORY_NAMES = ("Pss", "Pss_Anon", "Pss_File")


@dataclass(frozen=True)
class Load:
    """Result of one run of clients: (start, seconds) of each answered request, failures by kind, retries."""

    requests: tuple[tuple[float, float], ...]
    failures: dict[str, int]
    retries: int

    @property
    def milliseconds(self) -> list[float]:
        """Durations of the answered requests."""
        return [1000 * seconds for _, seconds in self.requests]

    @property
    def per_second(self) -> float:
        """Answers a second from a tenth to nine tenths of the time in which requests began.

        All clients are busy meanwhile, and neither end falls on a burst of answers, as the first and the last do.
        """
        starts = [start for start, _ in self.requests]
        first, last = min(starts), max(starts)
        low, high = first + 0.1 * (last - first), first + 0.9 * (last - first)
        return sum(low < start + seconds <= high for start, seconds in self.requests) / (high - low)


def read_texts(path: Path) -> list[str]:
    """Returns the texts of an annotated file in any format that the pipeline reads, empty ones left out."""
    return [example.text for example in read_annotated_text(str(path)) if example.text.strip()]


def start_load(target: str, texts: Path, *options: str) -> subprocess.Popen[str]:
    """Starts `bench.load_client` on a file written by `write_texts`; its output is read by `finish_load`."""
    command = [sys.executable, "-m", "bench.load_client", f"--target={target}", f"--texts={texts}", *options]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish_load(process: subprocess.Popen[str]) -> Load:
    """Ends the clients' standard input, waits for them and returns what they recorded."""
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the clients ended with status {process.returncode}")
    record = json.loads(output)
    return Load(tuple((start, seconds) for start, seconds in record["requests"]), record["failures"], record["retries"])


def write_texts(texts: Sequence[str], path: Path) -> Path:
    """Writes the texts for the clients."""
    path.write_text(json.dumps(list(texts)), encoding="utf-8")
    return path


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the value that `share` (0 to 1) of `values` do not exceed.

    Example:
        >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5)
        2.0
    """
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))]


def process_tree(pid: int) -> list[int]:
    """Returns a process and all its descendants; the embedded server has one for each version."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for each in found:
        found.extend(children.get(each, ()))
    return found


def process_memory(pid: int) -> dict[str, int]:
    """Returns the memory of a process and its descendants, in bytes, by the names of /proc/PID/smaps_rollup.

    A page that several processes share counts once. What counts of the pages of files, such as libraries, changes with
    the other programs that use them: `Pss_Anon` is without them.
    """
    total = dict.fromkeys(MEMORY_NAMES, 0)
    for member in process_tree(pid):
        lines = Path(f"/proc/{member}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
        fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
        for name in MEMORY_NAMES:
            total[name] += int(fields[name].split()[0]) * 1024
    return total


def cpu_seconds(pid: int) -> float:
    """Returns the processor time that a process and its living descendants have spent."""
    ticks = 0
    for each in process_tree(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def machine() -> str:
    """Returns the number of cores and the load average, which tells what else was running."""
    return f"{len(os.sched_getaffinity(0))} cores, load average {os.getloadavg()[0]:.1f} over the last minute"
