"""Publishing: a version is complete from the moment it can be seen, whatever happens to the process that makes it."""

from __future__ import annotations

import concurrent.futures
import errno
import os
import pathlib
import random
import shutil
import subprocess
import sys
import threading
import time

import pytest

from components.pusher import publish as publishing
from components.pusher.publish import PushError, publish, published_already
from components.pusher.versions import list_versions, read_highest_version

REPOSITORY = pathlib.Path(__file__).parents[2]
PUBLISH = "import sys; from components.pusher.publish import publish; print(publish(sys.argv[1], sys.argv[2]).version)"


def make_model(folder: pathlib.Path, size: int = 1000) -> pathlib.Path:
    files = {
        "saved_model.pb": 10,
        "fingerprint.pb": 1,
        "variables/variables.index": 20,
        "variables/variables.data-00000-of-00001": size,
        "assets/vocab.txt": 30,
        "assets.extra/tf_serving_warmup_requests": 40,
    }
    for name, length in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.urandom(length))
    return folder


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def model(tmp_path) -> pathlib.Path:
    return make_model(tmp_path / "model")


def test_a_version_is_the_model_and_bears_the_time(tmp_path, model):
    pushed = publish(model, tmp_path / "serving" / "ner", clock=lambda: 1763950000.9)

    assert pushed.version == 1763950000
    assert pushed.path == tmp_path / "serving" / "ner" / "1763950000"
    assert contents(pushed.path) == contents(model)
    assert names(pushed.path.parent) == {"1763950000", ".lock", ".highest-version"}


def test_versions_rise_within_a_second_and_after_the_clock_was_set_back(tmp_path, model):
    times = iter([1000.0, 1000.5, 10.0])

    versions = [publish(model, tmp_path / "ner", clock=lambda: next(times)).version for _ in range(3)]

    assert versions == [1000, 1001, 1002]


def test_a_version_that_was_removed_is_not_used_again(tmp_path, model):
    first = publish(model, tmp_path / "ner", clock=lambda: 1000.0)
    first.path.rename(tmp_path / "elsewhere")

    assert publish(model, tmp_path / "ner", clock=lambda: 1000.0).version == 1001


def test_the_same_model_is_recognised_as_the_newest_version(tmp_path, model):
    directory = tmp_path / "serving"
    assert published_already(model, directory) is None
    first = publish(model, directory)
    assert published_already(model, directory) == first


def test_a_model_that_another_one_followed_is_not_the_newest_version(tmp_path, model):
    directory = tmp_path / "serving"
    publish(model, directory)
    other = tmp_path / "other"
    shutil.copytree(model, other)
    (other / "saved_model.pb").write_bytes(b"other")
    second = publish(other, directory)
    assert published_already(model, directory) is None
    assert published_already(other, directory) == second


def test_names_made_by_others_are_left_alone(tmp_path, model):
    (tmp_path / "ner" / "0002000").mkdir(parents=True)
    (tmp_path / "ner" / "2001").write_text("a file where the next version would be")

    pushed = publish(model, tmp_path / "ner", clock=lambda: 1000.0)

    assert pushed.version == 2002
    assert names(tmp_path / "ner") >= {"0002000", "2001", "2002"}


def test_concurrent_pushes_get_versions_of_their_own(tmp_path, model):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        pushed = list(pool.map(lambda _: publish(model, tmp_path / "ner", clock=lambda: 1000.0), range(16)))

    assert sorted(each.version for each in pushed) == list(range(1000, 1016))
    assert all(contents(each.path) == contents(model) for each in pushed)
    assert not [name for name in names(tmp_path / "ner") if name.startswith(".incoming")]


def test_old_versions_go_and_the_newest_stay(tmp_path, model):
    for second in (1000, 1001, 1002):
        publish(model, tmp_path / "ner", clock=lambda second=second: float(second))

    publish(model, tmp_path / "ner", keep_versions=2, clock=lambda: 1003.0)

    assert list_versions(tmp_path / "ner") == (1002, 1003)
    assert names(tmp_path / "ner") == {"1002", "1003", ".lock", ".highest-version"}


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index"])
def test_an_incomplete_model_is_refused(tmp_path, model, name):
    (model / name).unlink()

    with pytest.raises(PushError, match=f"{name} is missing"):
        publish(model, tmp_path / "ner")

    assert not (tmp_path / "ner").exists()


def test_something_else_than_files_is_refused(tmp_path, model):
    os.mkfifo(model / "assets" / "pipe")

    with pytest.raises(PushError, match="pipe is neither a file nor a folder"):
        publish(model, tmp_path / "ner")

    assert list_versions(tmp_path / "ner") == ()


def test_a_full_disk_leaves_nothing(tmp_path, model, monkeypatch):
    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(publishing.os, "fsync", no_space)

    with pytest.raises(PushError, match=r"No space left on device.*nothing was published"):
        publish(model, tmp_path / "ner")

    assert names(tmp_path / "ner") == {".lock"}


def test_a_file_that_is_cut_short_leaves_nothing(tmp_path, model):
    """The system itself refuses to write on, as it does when a quota is reached."""
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)); " + PUBLISH

    process = subprocess.run(
        [sys.executable, "-c", limited, str(model), str(tmp_path / "ner")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == 1
    assert "nothing was published" in process.stderr
    assert names(tmp_path / "ner") == {".lock"}


def test_a_copy_that_differs_is_refused(tmp_path, model, monkeypatch):
    copy_file = publishing._copy_file

    def flip_a_bit(source: pathlib.Path, target: pathlib.Path) -> str:
        digest = copy_file(source, target)
        if target.name == "vocab.txt":
            data = bytearray(target.read_bytes())
            data[0] ^= 1
            target.write_bytes(bytes(data))
        return digest

    monkeypatch.setattr(publishing, "_copy_file", flip_a_bit)

    with pytest.raises(PushError, match=r"differs from the model in assets/vocab\.txt"):
        publish(model, tmp_path / "ner")

    assert list_versions(tmp_path / "ner") == ()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_an_error(tmp_path, model):
    (tmp_path / "ner").mkdir(mode=0o555)

    with pytest.raises(PushError, match="Permission denied"):
        publish(model, tmp_path / "ner")


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path, model):
    (tmp_path / "ner").write_text("no folder")

    with pytest.raises(PushError, match="cannot publish"):
        publish(model, tmp_path / "ner")


def test_a_killed_push_is_never_seen(tmp_path):
    """Pushes are killed at random moments while somebody looks at every numbered name, as a server does."""
    model = make_model(tmp_path / "model", size=24 << 20)
    sizes = {name: len(data) for name, data in contents(model).items()}
    serving = tmp_path / "ner"
    serving.mkdir()
    looks, faults = 0, []
    stop = threading.Event()

    def look() -> None:
        nonlocal looks
        while not stop.is_set():
            for version in list_versions(serving):
                folder = serving / str(version)
                found = {
                    str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()
                }
                if found != sizes:
                    faults.append((version, found))
            looks += 1

    watcher = threading.Thread(target=look)
    watcher.start()
    generator = random.Random(7)
    killed = 0
    try:
        for _ in range(8):
            before = set(serving.glob(".incoming-*"))
            process = subprocess.Popen(
                [sys.executable, "-c", PUBLISH, str(model), str(serving)], cwd=REPOSITORY, stdout=subprocess.DEVNULL
            )
            while process.poll() is None and not set(serving.glob(".incoming-*")) - before:
                time.sleep(0.001)
            time.sleep(generator.uniform(0, 0.06))
            process.kill()
            killed += process.wait() != 0
        last = publish(model, serving)
    finally:
        stop.set()
        watcher.join()

    assert not faults
    assert killed
    assert looks > 10
    assert contents(last.path) == contents(model)
    assert not list(serving.glob(".incoming-*")), "the next push removes what killed ones left"
    assert read_highest_version(serving) == last.version


def test_leftovers_are_removed_and_living_pushes_are_not(tmp_path, model):
    serving = tmp_path / "ner"
    (serving / ".incoming-dead" / "model").mkdir(parents=True)
    (serving / ".incoming-dead" / "lock").touch()
    (serving / ".incoming-unborn").mkdir()
    (serving / ".incoming-alive").mkdir()

    with publishing._lock(serving / ".incoming-alive" / "lock"):
        publish(model, serving, clock=lambda: 1000.0)
        assert names(serving) == {"1000", ".incoming-alive", ".lock", ".highest-version"}

    publish(model, serving, clock=lambda: 1000.0)
    assert names(serving) == {"1000", "1001", ".lock", ".highest-version"}
