"""Damage anywhere in a cache folder is a miss: found, said once, computed again, replaced. Never a wrong result."""

import random
import shutil
import sqlite3
import threading

import pytest

import graphflow as gf
from graphflow.cache.database import LAYOUT
from graphflow.cache.index import Index

FOLDER = f"v{LAYOUT}"


@pytest.fixture
def workflow(graph):
    return graph(
        t=("Tensor", {"seed": 1, "size": 32}),
        n=("Number", {"value": 5}),
        a=("Add", {"a": "@n"}),
        o=("Show", {"value": "@a"}),
        p=("Show", {"value": "@t"}),
    )


class Machine:
    """A cache folder and what a run on it gives, each time with a new engine."""

    def __init__(self, registry, folder, workflow, calls):
        self.registry, self.folder, self.workflow, self.calls = registry, folder, workflow, calls
        self.outputs, self.problems = self.run()
        self.files = sorted(path for path in (folder / FOLDER / "blobs").rglob("*") if path.is_file())
        self.kept = folder.with_name("kept")
        shutil.copytree(folder, self.kept)

    def run(self, targets=("t", "a")):
        cache = gf.Cache(self.folder)
        with gf.Engine(self.registry, cache=cache) as engine:
            result = engine.run(self.workflow, targets=list(targets))
            values = [next(iter(result[name].outputs.values())) for name in targets]
        return [value["samples"].tolist() if isinstance(value, dict) else value for value in values], cache.problems

    def restore(self):
        shutil.rmtree(self.folder)
        shutil.copytree(self.kept, self.folder)


@pytest.fixture
def machine(registry, tmp_path, workflow, calls):
    return Machine(registry, tmp_path / "cache", workflow, calls)


def check_heals(machine, damaged=True):
    """A run on the damaged folder is right and says so once; the next one finds everything mended."""
    before = machine.calls["Tensor"]
    outputs, problems = machine.run()
    assert outputs == machine.outputs
    assert machine.calls["Tensor"] == before + damaged
    assert [problem.code for problem in problems] == ["cache_damaged"] * damaged
    outputs, problems = machine.run()
    assert outputs == machine.outputs and not problems and machine.calls["Tensor"] == before + damaged


def test_nothing_is_computed_again_by_the_next_engine_on_the_folder(machine):
    check_heals(machine, damaged=False)
    assert len(machine.files) == 1


def test_a_truncated_blob_is_a_miss_is_said_and_is_replaced(machine):
    (blob,) = machine.files
    whole = blob.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        blob.write_bytes(whole[:length])
        check_heals(machine)
        assert blob.read_bytes() == whole


def test_a_blob_with_more_at_its_end_is_a_miss(machine):
    (blob,) = machine.files
    whole = blob.read_bytes()
    blob.write_bytes(whole + b"\0")
    check_heals(machine)
    assert blob.read_bytes() == whole


def test_a_flipped_bit_anywhere_in_a_blob_is_a_miss(machine):
    (blob,) = machine.files
    whole = blob.read_bytes()
    chosen = random.Random(1)
    for place in [0, 8, len(whole) - 1] + [chosen.randrange(len(whole)) for _ in range(9)]:
        data = bytearray(whole)
        data[place] ^= 1 << chosen.randrange(8)
        blob.write_bytes(data)
        check_heals(machine)


def test_no_flip_and_no_length_passes_the_check(tmp_path):
    from graphflow.cache.blobs import Damaged, Files, digest_of

    data = b"a stored result of some bytes"
    for sealed in (False, True):
        files = Files(tmp_path / str(sealed), sealed)
        name = b"0123456789abcdef" if sealed else digest_of(data)
        files.write(name, data)
        path = files.path(name)
        whole = path.read_bytes()
        for place in range(len(whole)):
            for bit in range(8):
                changed = bytearray(whole)
                changed[place] ^= 1 << bit
                with pytest.raises(Damaged):
                    files.check(name, bytes(changed))
            with pytest.raises(Damaged):
                files.check(name, whole[:place])
        assert files.read(name) == data


def test_two_swapped_blobs_are_two_misses(registry, graph, tmp_path, calls):
    workflow = graph(t=("Tensor", {"seed": 1}), a=("Tensor", {"seed": 2}), o=("Show", {"value": "@t"}))
    machine = Machine(registry, tmp_path / "cache", workflow, calls)
    one, two = machine.files
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    outputs, problems = machine.run()
    assert outputs == machine.outputs and calls["Tensor"] == 4
    assert [problem.code for problem in problems] == ["cache_damaged"]
    assert one.read_bytes() == first and two.read_bytes() == second


def test_two_swapped_checkpoints_are_no_checkpoints(tmp_path):
    cache = gf.Cache(tmp_path)
    first, second = cache.checkpoint(b"a" * 16, 0.0), cache.checkpoint(b"b" * 16, 0.0)
    first.save(lambda: {"step": 1})
    second.save(lambda: {"step": 2})
    one, two = cache.disk.checkpoints.path(b"a" * 16), cache.disk.checkpoints.path(b"b" * 16)
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(kept)
    assert first.load() is None and second.load() is None


def test_a_blob_that_is_gone_behind_its_row_is_a_miss_without_a_word(machine):
    machine.files[0].unlink()
    outputs, problems = machine.run()
    assert outputs == machine.outputs and machine.calls["Tensor"] == 2 and not problems
    assert machine.files[0].exists()


def test_refresh_replaces_a_damaged_blob_too(machine):
    (blob,) = machine.files
    whole = blob.read_bytes()
    blob.write_bytes(whole[:50])
    with gf.Engine(machine.registry, cache=gf.Cache(machine.folder)) as engine:
        engine.run(machine.workflow, refresh=True)
    assert blob.read_bytes() == whole


# -- the index ------------------------------------------------------------------------------------------------------


def index_of(machine):
    return machine.folder / FOLDER / "index.sqlite"


def test_a_lost_index_is_made_again_from_the_blobs(machine):
    for path in index_of(machine).parent.glob("index.sqlite*"):
        path.unlink()
    outputs, problems = machine.run()
    assert outputs == machine.outputs and machine.calls["Tensor"] == 1 and not problems


@pytest.mark.parametrize(
    "garbage", [b"", b"x", b"not a database " * 1000, bytes(5000)], ids=["empty", "a byte", "text", "zeros"]
)
def test_an_index_that_is_no_database_is_made_again_from_the_blobs(machine, garbage):
    for path in index_of(machine).parent.glob("index.sqlite-*"):
        path.unlink()
    index_of(machine).write_bytes(garbage)
    outputs, problems = machine.run()
    assert outputs == machine.outputs and machine.calls["Tensor"] == 1
    assert len(problems) <= 1
    outputs, problems = machine.run()
    assert outputs == machine.outputs and machine.calls["Tensor"] == 1 and not problems


def test_an_index_of_another_layout_is_made_again_from_the_blobs(machine):
    with sqlite3.connect(index_of(machine)) as db:
        db.execute("DROP TABLE outputs")
    db.close()
    outputs, problems = machine.run()
    assert outputs == machine.outputs and len(problems) == 1


def test_no_flipped_byte_of_the_index_gives_a_wrong_result_or_stops_a_run(machine):
    chosen = random.Random(7)
    size = index_of(machine).stat().st_size
    for _ in range(60):
        machine.restore()
        data = bytearray(index_of(machine).read_bytes())
        for _ in range(chosen.choice([1, 1, 20, 400])):
            data[chosen.randrange(size)] ^= 1 << chosen.randrange(8)
        index_of(machine).write_bytes(data)
        assert machine.run()[0] == machine.outputs
        assert machine.run()[0] == machine.outputs


def test_no_changed_cell_of_the_index_gives_a_wrong_result(machine):
    """Damage that SQLite cannot see, because the file is a sound database."""
    changes = [
        "UPDATE outputs SET data = x'3636' WHERE data IS NOT NULL",
        "UPDATE outputs SET data = NULL",
        "UPDATE outputs SET content = (SELECT max(content) FROM outputs)",
        "UPDATE outputs SET bytes = bytes + 1",
        "UPDATE outputs SET slot = slot + 1",
        "DELETE FROM outputs",
        'UPDATE entries SET ui = \'{"value": ["wrong"]}\'',
        "UPDATE entries SET rebuilt = 1 - rebuilt",
        "UPDATE entries SET key = (SELECT key FROM entries WHERE type = 'Number')",
        "UPDATE entries SET seconds = 1e9, created = 0",
        "UPDATE entries SET origin = 'no JSON'",
        "UPDATE entries SET brought = '[]'",
        "UPDATE entries SET seal = NULL",
        "DELETE FROM blobs",
    ]
    for change in changes:
        machine.restore()
        with sqlite3.connect(index_of(machine)) as db:
            db.execute(change)
        db.close()
        for _ in range(2):
            assert machine.run()[0] == machine.outputs
            with gf.Engine(machine.registry, cache=gf.Cache(machine.folder)) as engine:
                engine.explain(machine.workflow)
                assert engine.run(machine.workflow)["o"].ui == {"value": ["6"]}


def test_a_locked_index_delays_a_run_a_little_and_stops_nothing(machine, monkeypatch):
    monkeypatch.setattr("graphflow.cache.database.WAIT", 0.1)
    lock = sqlite3.connect(index_of(machine), isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    machine.workflow = machine.workflow.set("t.seed", 2)
    outputs, problems = machine.run()
    assert machine.calls["Tensor"] == 2 and [problem.code for problem in problems] == ["cache_full"]
    assert "locked" in problems[0].message
    lock.execute("ROLLBACK")
    assert machine.run() == (outputs, [])
    assert machine.calls["Tensor"] == 3
    lock.execute("PRAGMA locking_mode=EXCLUSIVE")
    lock.execute("BEGIN EXCLUSIVE")
    assert machine.run()[0] == outputs
    lock.close()


def test_two_layouts_live_side_by_side_in_one_folder(machine, monkeypatch):
    monkeypatch.setattr("graphflow.cache.folder.LAYOUT", LAYOUT + 1)
    monkeypatch.setattr("graphflow.cache.database.LAYOUT", LAYOUT + 1)
    monkeypatch.setattr(
        "graphflow.cache.database._SCHEMA",
        __import__("graphflow.cache.database", fromlist=["x"])._SCHEMA.replace(
            f"user_version = {LAYOUT}", f"user_version = {LAYOUT + 1}"
        ),
    )
    assert machine.run() == (machine.outputs, [])
    assert machine.calls["Tensor"] == 2
    monkeypatch.undo()
    assert machine.run() == (machine.outputs, [])
    assert machine.calls["Tensor"] == 2


def test_engines_of_several_threads_share_one_folder(registry, graph, tmp_path, calls):
    wrong = []

    def work(number):
        try:
            with gf.Engine(registry, cache=gf.Cache(tmp_path)) as engine:
                for seed in range(6):
                    workflow = graph(
                        n=("Number", {"value": seed}),
                        a=("Add", {"a": "@n", "b": number % 2}),
                        t=("Tensor", {"seed": seed, "size": 40}),
                        o=("Show", {"value": "@a"}),
                    )
                    result = engine.run(workflow, targets=["o", "t"])
                    if result["o"].ui != {"value": [repr(seed + number % 2)]}:
                        wrong.append(result["o"].ui)
                if engine.cache.problems:
                    wrong.append(engine.cache.problems)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and calls["Tensor"] == 6 and calls["Number"] == 6 and calls["Add"] == 12
    found = gf.Cache(tmp_path).disk.verify()
    assert found.damaged == found.missing == 0


def test_many_may_make_one_index_at_the_same_moment(tmp_path):
    wrong = []

    def work(path, barrier):
        barrier.wait()
        try:
            Index(path).close()
        except sqlite3.Error as error:
            wrong.append(error)

    for number in range(80):
        barrier = threading.Barrier(8)
        path = tmp_path / f"{number}.sqlite"
        threads = [threading.Thread(target=work, args=(path, barrier)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
