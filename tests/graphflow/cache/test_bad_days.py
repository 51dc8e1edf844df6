"""Whatever the disk does, a run goes on: without storing, with one warning, and with the right result."""

import builtins
import contextlib
import errno
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

import graphflow as gf


@pytest.fixture
def workflow(graph):
    """Ten tensors of 64 KB: more than the small disks of these tests hold."""
    nodes = {f"t{seed}": ("Tensor", {"seed": seed}) for seed in range(10)}
    shows = {f"o{seed}": ("Show", {"value": f"@t{seed}"}) for seed in range(10)}
    return graph(**nodes, **shows)


@pytest.fixture
def run(registry, workflow):
    """`run(folder)` -> (sums of the tensors, codes of the warnings), with a new engine each time."""

    def run(folder, **options):
        cache = gf.Cache(folder, **options)
        with gf.Engine(registry, cache=cache) as engine:
            result = engine.run(workflow, targets=[f"t{seed}" for seed in range(10)])
            sums = [float(result[f"t{seed}"].outputs["LATENT"]["samples"].sum()) for seed in range(10)]
        return sums, [problem.code for problem in cache.problems]

    return run


@pytest.fixture
def truth(run):
    return run(None)[0]


def test_the_limit_on_file_size_stands_for_a_full_disk(tmp_path, run, truth, calls):
    """Writing beyond RLIMIT_FSIZE fails as writing to a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for limit in (0, 100, 5_000, 40_000):
        folder = tmp_path / str(limit)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            sums, problems = run(folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert sums == truth and len(problems) == 1, problems
        assert run(folder) == (truth, []), "it recovers when there is room again"
        count = calls["Tensor"]
        assert run(folder) == (truth, []) and calls["Tensor"] == count
        assert not [path for path in folder.rglob(".*") if path.is_file()], "nothing half-written is left"
    signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 KB; skips where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "graphflow-test", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_the_storing_and_not_the_run(small_disk, run, truth, calls):
    sums, problems = run(small_disk)
    assert sums == truth and problems == ["cache_full"]
    assert run(small_disk)[0] == truth
    assert gf.Cache(small_disk).disk.verify().damaged == 0
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert run(small_disk) == (truth, [])
    count = calls["Tensor"]
    assert run(small_disk) == (truth, []) and calls["Tensor"] == count


def test_on_a_full_disk_the_oldest_results_make_room_for_new_ones(small_disk, registry, graph, calls):
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    for seed in range(20):
        with gf.Engine(registry, cache=gf.Cache(small_disk)) as engine:
            engine.run(graph(t=("Tensor", {"seed": seed}), o=("Show", {"value": "@t"})))
            assert not engine.cache.problems
    with gf.Engine(registry, cache=gf.Cache(small_disk)) as engine:
        engine.run(graph(t=("Tensor", {"seed": 19}), o=("Show", {"value": "@t"})), targets=["t"])
        assert calls["Tensor"] == 20
        engine.run(graph(t=("Tensor", {"seed": 0}), o=("Show", {"value": "@t"})), targets=["t"])
        assert calls["Tensor"] == 21


def test_a_file_system_mounted_read_only_is_read_and_not_written(small_disk, run, truth, calls):
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert run(small_disk) == (truth, [])
    count = calls["Tensor"]
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert run(small_disk) == (truth, ["cache_read_only"]) and calls["Tensor"] == count


READER = """
import sys
import graphflow as gf

@gf.node("Number", version="1")
def number(value: int = 0) -> int:
    print("computed", flush=True)
    return value

@gf.node("Show", version="1", output=True)
def show(value: gf.AnyType) -> gf.Ui:
    return gf.Ui({"value": [value]})

cache = gf.Cache(sys.argv[1])
with gf.Engine(gf.Registry([number, show]), cache=cache) as engine:
    workflow = gf.Workflow.from_json({"n": {"class_type": "Number", "inputs": {"value": 7}},
                                      "o": {"class_type": "Show", "inputs": {"value": ["n", 0]}}})
    print("shown", engine.run(workflow)["o"].ui["value"])
for problem in cache.problems:
    print("warned", problem.code)
"""


def by_the_rules(folder):
    """A small graph on the folder, in a process for which permissions count, even if it is root's."""
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if drop and shutil.which("setpriv") is None:
        pytest.skip("root needs setpriv for this")
    done = subprocess.run(
        [*drop, sys.executable, "-c", READER, str(folder)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def set_modes(folder, of_folders, of_files):
    for path in [folder, *folder.rglob("*")]:
        path.chmod(of_folders if path.is_dir() else of_files)


def test_a_folder_that_may_not_be_written_is_read_and_one_without_permission_is_left_alone(tmp_path):
    folder = tmp_path / "cache"
    assert by_the_rules(folder) == ["computed", "shown [7]"]
    assert by_the_rules(folder) == ["shown [7]"]
    set_modes(folder, 0o555, 0o444)
    assert by_the_rules(folder) == ["shown [7]", "warned cache_read_only"]
    folder.chmod(0o000)
    assert by_the_rules(folder) == ["computed", "shown [7]", "warned cache_off"]
    folder.chmod(0o755)
    set_modes(folder, 0o755, 0o644)
    assert by_the_rules(folder) == ["shown [7]"]


def test_a_folder_that_is_a_file_is_said_and_left_alone(tmp_path, run, truth):
    (tmp_path / "cache").write_text("no folder")
    assert run(tmp_path / "cache") == (truth, ["cache_off"])
    assert (tmp_path / "cache").read_text() == "no folder"


# -- every call of a session fails once ------------------------------------------------------------------------------


class Failing:
    """Lets the n-th call of some functions of `os` and of writing files fail."""

    def __init__(self, monkeypatch, error):
        self.left = -1
        self.count = 0
        for module, name in [
            (os, "replace"),
            (os, "open"),
            (os, "fsync"),
            (os, "unlink"),
            (os, "stat"),
            (builtins, "open"),
        ]:
            monkeypatch.setattr(module, name, self.wrap(getattr(module, name), error))

    def wrap(self, function, error):
        def call(*arguments, **options):
            shown = str(arguments[0]) if arguments else ""
            if "graphflow-nth" in shown or isinstance(arguments[0], int):
                self.count += 1
                if self.left == 0:
                    self.left = -1
                    raise OSError(error, os.strerror(error), shown)
                self.left -= 1
            return function(*arguments, **options)

        return call


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EROFS], ids=errno.errorcode.get)
def test_whichever_call_fails_the_results_are_right_and_the_folder_stays_sound(
    registry, graph, calls, monkeypatch, error, tmp_path
):
    workflow = graph(t=("Tensor", {"seed": 1, "size": 40}), n=("Number", {"value": 3}), o=("Show", {"value": "@n"}))

    def session(folder):
        cache = gf.Cache(folder, size=10_000_000)
        with gf.Engine(registry, cache=cache) as engine:
            result = engine.run(workflow, targets=["t", "o"])
            found = float(next(iter(result["t"].outputs.values()))["samples"].sum()), result["o"].ui
        cache.close()
        return found

    truth = session(tmp_path / "truth")
    with monkeypatch.context() as patch:
        failing = Failing(patch, error)
        session(tmp_path / "graphflow-nth-all")
        total = failing.count
        assert total > 10
        for number in range(0, total, 2 if error == errno.ENOSPC else 5):
            folder = tmp_path / f"graphflow-nth-{number}"
            failing.left = number
            assert session(folder) == truth
            failing.left = -1
            assert session(folder) == truth
            verified = gf.Cache(folder).disk.verify()
            assert verified.damaged == 0


def test_sqlite_errors_that_may_pass_are_said_once_and_the_index_is_kept(tmp_path, run, truth, monkeypatch, calls):
    run(tmp_path)
    from graphflow.cache.index import Index

    def busy(*_):
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Index, "_one", busy)
        sums, problems = run(tmp_path)
        assert sums == truth and problems == ["cache_index"]
    count = calls["Tensor"]
    assert run(tmp_path) == (truth, []) and calls["Tensor"] == count


def test_a_result_that_cannot_be_written_for_a_reason_nobody_thought_of_leaves_no_run_waiting(
    tmp_path, run, truth, monkeypatch
):
    from graphflow.cache import record

    def broken(row):
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr(record, "write", broken)
    sums, problems = run(tmp_path)
    assert sums == truth and problems == ["cache_failed"]


def test_a_result_that_shows_no_json_is_not_stored_and_the_run_goes_on(tmp_path, graph):
    @gf.node("Odd", version="1", output=True)
    def odd() -> gf.Ui:
        return gf.Ui({"value": [{1, 2}]})

    for _ in range(2):
        cache = gf.Cache(tmp_path)
        with gf.Engine(gf.Registry([odd]), cache=cache) as engine:
            assert engine.run(graph(o=("Odd", {})))["o"].ui == {"value": [{1, 2}]}
        assert not cache.problems


def test_open_files_do_not_pile_up(tmp_path, run):
    with contextlib.suppress(FileNotFoundError):
        run(tmp_path)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            run(tmp_path)
        assert len(os.listdir("/proc/self/fd")) <= before + 1
