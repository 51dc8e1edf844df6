"""A second level that machines share: on a folder, on S3, and when it is not there."""

import socket
import time

import pytest

import graphflow as gf
from tests.s3_server import CREDENTIALS, environment, s3_server

BUCKET = "graphflow-test"


@pytest.fixture(scope="module")
def s3():
    """The address of an S3 server on loopback."""
    with s3_server() as url:
        yield url


def pretend_to_be_amazon(monkeypatch, endpoint):
    for name, value in {**CREDENTIALS, **environment(endpoint)}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["file", "s3"])
def remote(request, tmp_path, monkeypatch):
    """The URL of an empty shared level."""
    if request.param == "file":
        folder = tmp_path / "shared"
        folder.mkdir()
        return folder.as_uri()
    endpoint = request.getfixturevalue("s3")
    pretend_to_be_amazon(monkeypatch, endpoint)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"{BUCKET}-{time.monotonic_ns()}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}/cache"


@pytest.fixture
def machine(registry, graph, calls, tmp_path):
    """`machine("a", url)`: a run on a machine with an empty or its own folder; what it shows, warns of and computes."""
    workflow = graph(t=("Tensor", {"seed": 1, "size": 40}), a=("Any", {"value": "@t"}), o=("Show", {"value": "@a"}))

    def run(name, url, seed=1, **options):
        before = calls.copy()
        cache = gf.Cache(tmp_path / name, remote=url)
        with gf.Engine(registry, cache=cache) as engine:
            result = engine.run(workflow.set("t.seed", seed), targets=["o", "a"], **options)
            found = float(next(iter(result["a"].outputs.values()))["samples"].sum())
        return found, [problem.code for problem in cache.problems], dict(calls - before)

    return run


def files_of(url):
    from fsspec.core import url_to_fs

    system, root = url_to_fs(url)
    system.invalidate_cache()
    return system, [path for path in system.find(root)]


def test_what_one_machine_computed_the_next_one_takes(remote, machine):
    found, problems, computed = machine("a", remote)
    assert not problems and computed["Tensor"] == 1
    again, problems, computed = machine("b", remote)
    assert again == found and not problems and "Tensor" not in computed and "Any" not in computed
    system, files = files_of(remote)
    assert len([path for path in files if "/blobs/" in path]) == 1
    for path in files:
        system.rm_file(path)
    again, problems, computed = machine("b", remote)
    assert again == found and not problems and not computed, "what was taken once lies in the own folder"


def test_a_damaged_remote_blob_is_a_miss_and_is_replaced_for_the_other_machines(remote, machine):
    found = machine("a", remote)[0]
    system, files = files_of(remote)
    (blob,) = (path for path in files if "/blobs/" in path)
    data = system.cat_file(blob)
    system.pipe_file(blob, data[:-1] + b"?")
    again, problems, computed = machine("b", remote)
    assert again == found and problems == ["cache_damaged"] and computed["Tensor"] == 1
    assert system.cat_file(blob) == data
    again, problems, computed = machine("c", remote)
    assert again == found and not problems and "Tensor" not in computed


def test_a_damaged_remote_record_is_a_miss(remote, machine):
    found = machine("a", remote)[0]
    system, files = files_of(remote)
    records = [path for path in files if "/records/" in path]
    swapped = [system.cat_file(path) for path in records]
    for path, data in zip(records, swapped[1:] + swapped[:1], strict=True):
        system.pipe_file(path, data if len(records) > 1 else data[:-3])
    again, problems, computed = machine("b", remote)
    assert again == found and not problems and computed["Tensor"] == 1


@pytest.fixture
def edited(registry, graph, calls, tmp_path):
    """`edited("a", url, value, b)`: `value + b` decides a slow node; what it computes, what it gives, what it warns
    of."""

    @gf.node("Slow", version="1")
    def slow(a: int) -> str:
        calls["Slow"] += 1
        return "s" * (5000 + a)

    registry.add(slow)

    def run(name, url, value, b, **options):
        before = calls.copy()
        workflow = graph(
            n=("Number", {"value": value}),
            s=("Add", {"a": "@n", "b": b}),
            w=("Slow", {"a": "@s"}),
            o=("Show", {"value": "@w"}),
        )
        cache = gf.Cache(tmp_path / name, remote=url)
        with gf.Engine(registry, cache=cache) as engine:
            result = engine.run(workflow, targets=["o", "w"], **options)
            found = len(next(iter(result["w"].outputs.values())))
        return dict(calls - before).get("Slow", 0), found, [problem.code for problem in cache.problems]

    return run


def test_an_edit_upstream_that_gives_the_same_is_noticed_on_another_machine(remote, edited):
    assert edited("a", remote, 1, 2) == (1, 5003, [])
    assert edited("b", remote, 2, 1) == (0, 5003, [])
    assert edited("b", remote, 2, 2) == (1, 5004, [])
    assert edited("c", remote, 2, 1, refresh=True) == (1, 5003, [])
    assert edited("d", remote, 0, 3) == (0, 5003, [])


def test_a_miss_asks_for_its_key_once_in_a_run_and_a_run_for_no_more_than_its_share(tmp_path, monkeypatch):
    from graphflow.cache import remote as module

    asked = []
    level = module.RemoteTier((tmp_path / "shared").as_uri())
    monkeypatch.setattr(level, "_file", lambda kind, name: asked.append((kind, name)))
    for _ in range(3):
        assert level.key(b"one") is None
    assert asked == [("keys", b"one")]
    for number in range(1000):
        level.key(b"%d" % number)
    assert len(asked) == module.KEYS_AT_MOST
    level.begin_run()
    level.key(b"one")
    assert asked[-1] == ("keys", b"one") and len(asked) == module.KEYS_AT_MOST + 1


def test_what_a_refreshed_run_found_out_is_what_a_key_leads_to(tmp_path, registry, graph):
    """A node that says it always gives the same, and does not: the last word counts on every machine."""
    url, answers = (tmp_path / "shared").as_uri(), iter("abc")

    @gf.node("Fickle", version="1")
    def fickle(a: int) -> str:
        return next(answers) * 5000

    registry.add(fickle)

    def machine(name, value, **options):
        workflow = graph(
            n=("Number", {"value": value}),
            s=("Add", {"a": "@n", "b": 3 - value}),
            w=("Fickle", {"a": "@s"}),
            o=("Show", {"value": "@w"}),
        )
        with gf.Engine(registry, cache=gf.Cache(tmp_path / name, remote=url)) as engine:
            result = engine.run(workflow, targets=["o", "w"], **options)
            return next(iter(result["w"].outputs.values()))[0]

    (tmp_path / "shared").mkdir()
    assert machine("a", 1) == "a"
    assert machine("b", 2, refresh=True) == "b"
    assert machine("c", 0) == "b"


@pytest.mark.parametrize("harm", ["records", "blobs", "keys", "a damaged key", "another key"])
def test_a_remote_key_that_leads_to_nothing_or_to_something_else_is_a_miss(remote, edited, harm):
    edited("a", remote, 1, 2)
    edited("a", remote, 1, 5)
    system, files = files_of(remote)
    keys = [path for path in files if "/keys/" in path]
    if harm == "a damaged key":
        for path in keys:
            system.pipe_file(path, system.cat_file(path)[:-1] + b"?")
    elif harm == "another key":
        data = [system.cat_file(path) for path in keys]
        for path, other in zip(keys, data[1:] + data[:1], strict=True):
            system.pipe_file(path, other)
    else:
        for path in files:
            if f"/{harm}/" in path:
                system.rm_file(path)
    assert len(keys) >= 2
    assert edited("b", remote, 2, 1) == (1, 5003, [])
    assert edited("c", remote, 3, 0) == (0, 5003, []), "it is there again for the next one"


def test_refresh_asks_nobody(remote, machine):
    machine("a", remote)
    assert machine("b", remote, refresh=True)[2]["Tensor"] == 1


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("kind", ["no server", "no package", "no folder"])
def test_an_unreachable_level_is_said_once_and_the_run_goes_on(machine, monkeypatch, kind, tmp_path):
    if kind == "no server":
        s3fs = pytest.importorskip("s3fs", reason="needs the extra `remote` (s3fs)")
        s3fs.S3FileSystem.clear_instance_cache()
        pretend_to_be_amazon(monkeypatch, f"http://127.0.0.1:{free_port()}")
        url = "s3://nowhere/cache"
    elif kind == "no package":
        url = "nosuchprotocol://x/y"
    else:
        (tmp_path / "plain").write_text("a file")
        url = (tmp_path / "plain" / "cache").as_uri()
    began = time.monotonic()
    found, problems, computed = machine("a", url)
    assert problems == ["cache_remote"] and computed["Tensor"] == 1
    assert time.monotonic() - began < 30
    assert machine("a", url, seed=2)[1] == ["cache_remote"]
    assert machine("a", url)[0] == found and machine("a", None)[2] == {}


@pytest.fixture
def diskless(registry, graph, calls):
    """`diskless(url)`: a run on a machine that has no cache folder; what it shows, and what it computes."""
    workflow = graph(t=("Tensor", {"seed": 1, "size": 40}), a=("Any", {"value": "@t"}), o=("Show", {"value": "@a"}))

    def run(url, **options):
        before = calls.copy()
        with gf.Engine(registry, cache=gf.Cache(remote=url)) as engine:
            result = engine.run(workflow, targets=["o", "a"], **options)
        return float(next(iter(result["a"].outputs.values()))["samples"].sum()), dict(calls - before)

    return run


def test_a_shared_level_works_without_a_folder(remote, diskless, machine):
    found, computed = diskless(remote)
    assert computed["Tensor"] == 1
    again, computed = diskless(remote)
    assert again == found and "Tensor" not in computed and "Any" not in computed
    again, problems, computed = machine("a", remote)
    assert again == found and not problems and "Tensor" not in computed, "a machine with a folder finds it, too"
    assert diskless(remote, refresh=True)[1]["Tensor"] == 1


def test_without_a_folder_an_edit_upstream_that_gives_the_same_is_noticed_and_damage_is_a_miss(
    remote, registry, graph, calls
):
    @gf.node("Slow", version="1")
    def slow(a: int) -> str:
        calls["Slow"] += 1
        return "s" * (5000 + a)

    registry.add(slow)

    def run(value, b):
        workflow = graph(
            n=("Number", {"value": value}),
            s=("Add", {"a": "@n", "b": b}),
            w=("Slow", {"a": "@s"}),
            o=("Show", {"value": "@w"}),
        )
        with gf.Engine(registry, cache=gf.Cache(remote=remote, warn=problems.append)) as engine:
            return len(next(iter(engine.run(workflow, targets=["o", "w"])["w"].outputs.values())))

    problems = []
    assert run(1, 2) == run(2, 1) == 5003 and calls["Slow"] == 1
    system, files = files_of(remote)
    (blob,) = (path for path in files if "/blobs/" in path)
    system.pipe_file(blob, system.cat_file(blob)[:-1] + b"?")
    assert run(2, 1) == 5003 and calls["Slow"] == 2
    assert [problem.code for problem in problems] == ["cache_damaged"]
    assert run(0, 3) == 5003 and calls["Slow"] == 2, "it is there again"


def test_a_level_that_cannot_be_opened_warns_who_did_not_ask_for_problems(registry, graph):
    from graphflow.problem import CacheWarning

    cache = gf.Cache(remote="nosuchprotocol://x/y")
    with gf.Engine(registry, cache=cache) as engine, pytest.warns(CacheWarning, match="nosuchprotocol://x/y"):
        engine.run(graph(n=("Number", {}), o=("Show", {"value": "@n"})))
    assert [problem.code for problem in cache.problems] == ["cache_remote"]


def test_a_warning_that_is_an_error_fails_no_run(registry, graph):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with gf.Engine(registry, cache=gf.Cache(remote="nosuchprotocol://x/y")) as engine:
            assert engine.run(graph(n=("Number", {}), o=("Show", {"value": "@n"})))["o"].ui


def test_a_cache_of_a_shared_level_alone_needs_none_to_be_asked_for_what_is_in_memory(tmp_path, registry, graph, calls):
    (tmp_path / "shared").mkdir()
    workflow = graph(n=("Number", {}), o=("Show", {"value": "@n"}))
    with gf.Engine(registry, cache=gf.Cache(remote=(tmp_path / "shared").as_uri())) as engine:
        engine.run(workflow)
        engine.cache.shared._system = None
        engine.cache.shared._off_until = float("inf")
        engine.run(workflow)
    assert calls["Number"] == 1 and not engine.cache.problems


def test_opening_a_level_touches_no_network_and_imports_nothing(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys, graphflow as gf; gf.Cache(sys.argv[1], remote='s3://bucket/x').close();"
        "print([name for name in ('fsspec', 's3fs', 'botocore') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code, str(tmp_path)], text=True).strip() == "[]"
