"""The file of the queue: commits in groups, versions, damage, a full disk, one server at a time."""

import asyncio
import sqlite3
import threading
from concurrent.futures import wait

import pytest
from graphflow_server.queue import Counts, QueueUnavailable, Submission, claims, ledger, reading, schema, upkeep
from graphflow_server.queue.store import QueueStore

from graphflow import GraphFlowError
from tests.server.queue.watching import until


def submission(name: str) -> Submission:
    return Submission({"1": {"class_type": "Write", "inputs": {}}}, prompt_id=name)


def test_what_is_asked_for_at_the_same_time_is_committed_in_one_go(tmp_path):
    commits = []
    store = QueueStore(tmp_path / "q", lambda events, counts: commits.append(counts))
    gate, begun = threading.Event(), threading.Event()
    blocked = store.write(lambda _: (begun.set(), gate.wait(60)))
    begun.wait(60)
    futures = [store.write(lambda tx, at=at: ledger.accept(tx, submission(str(at)))) for at in range(100)]
    gate.set()
    wait([blocked, *futures])
    assert [future.result().number for future in futures] == list(range(1, 101))
    assert len(commits) == 2 and commits[-1] == Counts(pending=100)
    store.close()


def test_an_action_that_fails_is_undone_alone(tmp_path):
    store = QueueStore(tmp_path / "q")

    def fail(tx):
        ledger.accept(tx, submission("half"))
        raise ValueError("no")

    gate = threading.Event()
    store.write(lambda _: gate.wait(60))
    good = store.write(lambda tx: ledger.accept(tx, submission("good")))
    bad = store.write(fail)
    gate.set()
    assert good.result(60).prompt_id == "good"
    with pytest.raises(ValueError, match="no"):
        bad.result(60)
    assert store.read(lambda db: db.execute("SELECT id FROM prompts").fetchall()).result(60) == [("good",)]
    store.close()


def test_an_acceptance_is_synced_to_the_disk(tmp_path):
    store = QueueStore(tmp_path / "q")
    mode = store.write(
        lambda tx: (
            tx.db.execute("PRAGMA journal_mode").fetchone()[0],
            tx.db.execute("PRAGMA synchronous").fetchone()[0],
        )
    )
    assert mode.result(60) == ("wal", 2)  # 2 is FULL
    store.close()


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path):
    QueueStore(tmp_path / "q").close()
    with sqlite3.connect(tmp_path / "q") as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(GraphFlowError, match="newer version of graphflow"):
        QueueStore(tmp_path / "q")
    with sqlite3.connect(tmp_path / "q") as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 99


def test_a_file_of_an_older_version_is_brought_up_to_date_with_all_that_is_in_it(tmp_path):
    with sqlite3.connect(tmp_path / "q") as db:
        for statement in schema.MIGRATIONS[0]:
            db.execute(statement)
        for number, name in enumerate("abc"):
            db.execute(
                "INSERT INTO prompts (id, number, state, finished, created, digest, targets, node_errors, workflow, "
                "extra) VALUES (?, ?, ?, ?, 0, x'00', '[]', '{}', '{}', '{}')",
                (name, number, "cancelled" if name == "b" else "pending", 1.0 if name == "b" else None),
            )
        db.execute("PRAGMA user_version=1")
    store = QueueStore(tmp_path / "q")
    assert store.counts == Counts(pending=2)
    assert store.read(lambda db: db.execute("SELECT * FROM waiting").fetchall()).result(60) == [("", 2)]
    found = store.read(lambda db: reading.listing(db, ("pending", "cancelled"), 10, 0, False)).result(60)
    assert found.total == 3 and [item.id for item in found.prompts] == ["a", "c", "b"]
    store.close()


def test_an_upgrade_that_is_killed_half_way_changes_nothing_and_goes_through_later(tmp_path, monkeypatch):
    QueueStore(tmp_path / "q").close()
    step = ("ALTER TABLE prompts ADD COLUMN more TEXT", "NOT SQL AT ALL")
    monkeypatch.setattr("graphflow_server.queue.store.MIGRATIONS", (*schema.MIGRATIONS, step))
    with pytest.raises(sqlite3.Error):
        QueueStore(tmp_path / "q")
    monkeypatch.setattr("graphflow_server.queue.store.MIGRATIONS", (*schema.MIGRATIONS, step[:1]))
    store = QueueStore(tmp_path / "q")
    columns = store.read(lambda db: [row[1] for row in db.execute("PRAGMA table_info(prompts)")]).result(60)
    assert columns.count("more") == 1
    store.close()


def test_a_file_that_is_no_database_is_refused_with_a_hint(tmp_path):
    (tmp_path / "q").write_bytes(b"these are not the tables you are looking for" * 100)
    with pytest.raises(GraphFlowError, match="cannot open the queue") as error:
        QueueStore(tmp_path / "q")
    assert "move the file away" in error.value.problems[0].hint


def test_a_damaged_page_is_found_at_the_start_and_refused_with_what_to_do(tmp_path):
    store = QueueStore(tmp_path / "q")
    for at in range(300):
        store.write(lambda tx, at=at: ledger.accept(tx, submission(f"prompt {at}"))).result(60)
    store.close()
    content = bytearray((tmp_path / "q").read_bytes())
    pages = len(content) // 4096
    assert pages > 20
    for page in range(10, pages - 2, 3):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    (tmp_path / "q").write_bytes(content)
    with pytest.raises(GraphFlowError, match="is damaged") as error:
        QueueStore(tmp_path / "q")
    assert ".recover" in error.value.problems[0].hint


def test_a_server_whose_file_another_one_has_opened_writes_nothing_more_and_ends_its_worker(place, run, prompt):
    """Somebody removed the lock files, or the file system has no locks."""

    async def check():
        first, second = place.queue(), place.queue()
        await first.start()
        await first.submit(prompt(deaf=30.0, prompt_id="runs"))
        while not first.counts.running:
            await asyncio.sleep(0.02)
        for lock in (place.root / "state").glob("*.lock"):
            lock.unlink()
        await second.start()
        with pytest.raises(QueueUnavailable, match=r"another server has taken over|shutting down"):
            await first.submit(prompt(write="lost"))
        await asyncio.wait_for(first.lost.wait(), 240)
        with pytest.raises(QueueUnavailable, match="shutting down"):
            await first.submit(prompt(write="lost"))
        await first.close()
        assert first.worker.state == "stopped"
        accepted = await second.submit(prompt(write="kept"))
        await second.cancel("runs")
        done = await second.wait(accepted.prompt_id, 240)
        assert done is not None and done.state == "done" and place.files() == ["kept 0"]
        await second.close()

    run(check())


def test_a_pause_survives_a_restart_and_so_does_its_end(place, run, prompt):
    async def check():
        async with place.queue() as queue:
            await queue.pause()
        async with place.queue() as queue:
            accepted = await queue.submit(prompt(write="later"))
            assert queue.paused and (await queue.wait(accepted.prompt_id, 0.5)).state == "pending"
            await queue.resume()
            assert (await queue.wait(accepted.prompt_id, 240)).state == "done"
        async with place.queue() as queue:
            assert not queue.paused

    run(check())


def test_a_second_server_on_the_same_folder_is_refused(place, run):
    async def check():
        async with place.queue():
            with pytest.raises(GraphFlowError, match="another server uses"):
                await place.queue().start()
        async with place.queue():
            pass

    run(check())


def test_a_full_disk_refuses_and_takes_prompts_again_when_there_is_space(place, prompt, run):
    """`max_page_count` makes SQLite give the same answer as a disk without space."""

    async def check():
        async with place.queue(start_paused=True) as queue:
            await queue.submit(prompt(write="before"))
            limit = asyncio.wrap_future(
                queue._store.write(lambda tx: tx.db.execute("PRAGMA max_page_count=1").fetchone())
            )
            await limit
            with pytest.raises(QueueUnavailable, match="cannot be written") as error:
                for _ in range(100):
                    await queue.submit(prompt(write="x" * 10_000))
            assert error.value.problems[0].code == "no_disk"
            had = queue.counts.pending
            queue._store.write(lambda tx: tx.db.execute("PRAGMA max_page_count=1073741823").fetchone()).result(60)
            last = await queue.submit(prompt(write="after"))
            assert queue.counts.pending == had + 1
            await queue.resume()
            assert (await queue.wait(last.prompt_id, 240)).state == "done"

    run(check())


def test_what_a_run_tells_while_the_disk_is_full_is_written_down_when_there_is_space_and_only_then_does_it_end(
    place, prompt, run, monkeypatch
):
    """Once, a prompt ended as done without the outputs that nobody could write down."""
    append, moments = ledger.append, []

    def full(tx, prompt_id, epoch, events, after):
        moments.append([kind for kind, _ in events])
        if len(moments) % 4:
            raise sqlite3.OperationalError("database or disk is full")
        return append(tx, prompt_id, epoch, events, after)

    monkeypatch.setattr(ledger, "append", full)
    monkeypatch.setattr("graphflow_server.queue.runner.RETRY", 0.02)

    async def check():
        async with place.queue() as queue:
            heard = []
            queue.subscribe(heard.append)
            accepted = await queue.submit(prompt(write="precious", steps={"text": "s", "seconds": 0.01}))
            done = await queue.wait(accepted.prompt_id, 240)
            assert done.state == "done" and set(done.outputs) == {"write", "steps_out"}
            log = await queue.events(accepted.prompt_id)
            kinds = [event.type for event in log]
            assert kinds.count("executing") == 3 and kinds.count("executed") == 2 and kinds[-1] == "execution_success"
            assert [event.number for event in log] == list(range(1, len(log) + 1))
            await until(lambda: [event for event in heard if event.number is not None] == log)
            about = [event.type for event in heard if "steps" in (event.data.get("node"), *event.data.get("nodes", {}))]
            assert about[0] == "executing", "progress comes behind the state that it belongs to"
        assert len(moments) >= 4

    run(check())


def test_on_a_full_disk_nothing_is_changed_but_an_interrupt_reaches_its_run_and_is_written_down_when_there_is_space(
    place, prompt, run, monkeypatch
):
    monkeypatch.setattr("graphflow_server.queue.runner.RETRY", 0.05)

    async def check():
        async with place.queue(cancel_within=60) as queue:
            running = await queue.submit(prompt(steps={"text": "long", "steps": 200, "seconds": 0.1}))
            await queue.submit(prompt(write="waits", prompt_id="waits"))
            async for event in queue.follow(running.prompt_id):
                if event.type == "executing":
                    break
            commit, queue._store._commit = queue._store._commit, refuse
            for change in (
                queue.cancel("waits"),
                queue.delete(["waits"]),
                queue.clear(),
                queue.move("waits"),
                queue.delete_history(),
                queue.interrupt(),
            ):
                with pytest.raises(QueueUnavailable, match="cannot be written: database or disk is full") as error:
                    await change
                assert error.value.problems[0].code == "no_disk"
            while queue.progress(running.prompt_id) is not None:
                await asyncio.sleep(0.05)
            assert (await queue.get(running.prompt_id)).state == "running", "its end waits for the disk"
            queue._store._commit = commit
            assert (await queue.wait(running.prompt_id, 240)).state == "cancelled"
            assert (await queue.wait("waits", 240)).state == "done"

    def refuse(jobs):
        for job in jobs:
            job.future.set_exception(sqlite3.OperationalError("database or disk is full"))

    run(check())


def test_an_interrupt_that_could_not_be_written_down_wins_though_its_node_got_through(place, prompt, run, monkeypatch):
    monkeypatch.setattr("graphflow_server.queue.runner.RETRY", 0.05)

    async def check():
        async with place.queue(cancel_within=60) as queue:
            running = await queue.submit(prompt(write={"text": "through", "seconds": 0.0}, deaf=0.7))
            async for event in queue.follow(running.prompt_id):
                if event.type == "executing" and event.data["node"] == "deaf":
                    break
            cancel = ledger.cancel
            monkeypatch.setattr(ledger, "cancel", full)
            with pytest.raises(QueueUnavailable):
                await queue.interrupt()
            monkeypatch.setattr(ledger, "cancel", cancel)
            assert (await queue.wait(running.prompt_id, 240)).state == "cancelled"

    def full(tx, prompt_id):
        raise sqlite3.OperationalError("database or disk is full")

    run(check())


def test_a_run_whose_states_cannot_be_written_down_is_made_again_and_does_not_end_without_them(
    place, prompt, run, monkeypatch
):
    append, errors = ledger.append, [ValueError("a page is damaged")]

    def fail(tx, *given):
        if errors:
            raise errors.pop()
        return append(tx, *given)

    monkeypatch.setattr(ledger, "append", fail)

    async def check():
        async with place.queue() as queue:
            accepted = await queue.submit(prompt(write="precious"))
            done = await queue.wait(accepted.prompt_id, 240)
            assert (done.state, done.attempts, list(done.outputs)) == ("done", 2, ["write"])
        assert place.files() == ["precious 0"]

    run(check())


def test_whoever_stops_waiting_for_an_acceptance_harms_nobody(place, prompt, run):
    async def check():
        async with place.queue(start_paused=True) as queue:
            gone = [asyncio.create_task(queue.submit(prompt(write="a", prompt_id=f"gone {at}"))) for at in range(20)]
            await asyncio.sleep(0)
            for task in gone:
                task.cancel()
            await queue.submit(prompt(write="b", prompt_id="here"))
            assert (await queue.get("here")).state == "pending"

    run(check())


class Flaky:
    """A connection whose n-th statement fails as it does when the disk fails; before it is done, or after."""

    def __init__(self, db, fail_at, afterwards):
        self._db, self._left, self._afterwards = db, fail_at, afterwards

    def __getattr__(self, name):
        return getattr(self._db, name)

    def _statement(self, run):
        self._left -= 1
        if self._left == 0 and not self._afterwards:
            raise sqlite3.OperationalError("disk I/O error")
        result = run()
        if self._left == 0:
            raise sqlite3.OperationalError("disk I/O error")
        return result

    def execute(self, *given):
        return self._statement(lambda: self._db.execute(*given))

    def executemany(self, *given):
        return self._statement(lambda: self._db.executemany(*given))

    @property
    def failed(self):
        return self._left <= 0


def scripted_session(store):
    """Some of everything; each step is tried again until it is written, as the queue does."""

    def do(action):
        while True:
            try:
                return store.write(action).result(60)
            except sqlite3.OperationalError:
                continue

    for name in "abc":
        do(lambda tx, name=name: ledger.accept(tx, submission(name)))
    do(lambda tx: ledger.move(tx, "b", None))
    first = do(claims.claim)
    assert (first.id, first.epoch & 0xFFFFF) == ("b", 1), "a claim whose answer was lost is answered again"
    do(lambda tx: ledger.append(tx, first.id, first.epoch, [("executing", '{"node": "1", "display_node": "1"}')], 1))
    do(lambda tx: ledger.finish(tx, first.id, first.epoch, "execution_success", {}))
    do(lambda tx: ledger.cancel(tx, "a"))
    return store.read(lambda db: {name: reading.find(db, name) for name in "abc"}).result(60)


@pytest.mark.parametrize("afterwards", [False, True])
def test_an_error_of_the_disk_at_any_statement_loses_nothing_and_doubles_nothing(tmp_path, afterwards):
    fail_at, failed = 0, True
    while failed:
        fail_at += 1
        store = QueueStore(tmp_path / f"q{fail_at}")
        store._db = flaky = Flaky(store._db, fail_at, afterwards)
        found = scripted_session(store)
        failed = flaky.failed
        assert [found[name].state for name in "abc"] == ["cancelled", "done", "pending"], fail_at
        for name, ends in {"a": 1, "b": 1, "c": 0}.items():
            log = store.read(lambda db, name=name: reading.events(db, name, 0, 100)).result(60)
            assert [event.number for event in log] == list(range(1, len(log) + 1))
            assert sum(event.is_terminal for event in log) == ends, fail_at
            assert sum(event.type == "executing" for event in log) == (name == "b"), fail_at
        store.close()
    assert fail_at > 50, "the session has that many statements"


def test_the_queue_stumbles_over_an_unexpected_error_and_goes_on(place, prompt, run, monkeypatch):
    claim, errors = claims.claim, [RuntimeError("unexpected")]

    def stumble(tx, *given):
        if errors:
            raise errors.pop()
        return claim(tx, *given)

    monkeypatch.setattr(claims, "claim", stumble)

    async def check():
        async with place.queue() as queue:
            accepted = await queue.submit(prompt(write="a"))
            assert (await queue.wait(accepted.prompt_id, 240)).state == "done"
            assert not errors

    run(check())


def test_what_is_nested_too_deeply_for_the_file_keeps_no_prompt_from_its_end(tmp_path):
    """SQLite reads JSON to a depth of 1000; a workflow or an output beyond that ends like any other."""
    store = QueueStore(tmp_path / "q")
    deep = "[" * 5000 + "]" * 5000
    shown = [
        ("executed", f'{{"node": "{node}", "display_node": "{node}", "output": {{"v": {value}}}}}')
        for node, value in (("1", "[2]"), ("2", deep))
    ]
    store.write(lambda tx: ledger.accept(tx, submission("deep"))).result(60)
    store.write(lambda tx: tx.db.execute("UPDATE prompts SET workflow = ?", (f'{{"1": {deep}}}',))).result(60)
    held = store.write(claims.claim).result(60)
    assert store.read(lambda db: reading.beginning(db, "deep")).result(60) == (1, 0)
    store.write(lambda tx: ledger.append(tx, held.id, held.epoch, shown, 1)).result(60)
    assert store.write(lambda tx: ledger.cancel(tx, "deep")).result(60) == "cancelling"
    assert (
        store.write(lambda tx: ledger.finish(tx, held.id, held.epoch, "execution_success", {})).result(60)
        == "cancelled"
    )
    assert store.read(lambda db: reading.find(db, "deep")).result(60).outputs == {"1": {"v": [2]}}
    store.close()


def test_an_id_that_is_used_again_after_it_was_forgotten_has_other_epochs(tmp_path):
    store = QueueStore(tmp_path / "q")

    def write(action):
        return store.write(action).result(60)

    def one_run():
        write(lambda tx: ledger.accept(tx, submission("again")))
        claimed = write(claims.claim)
        write(lambda tx: ledger.finish(tx, claimed.id, claimed.epoch, "execution_success", {}))
        return claimed.epoch

    former = one_run()
    write(upkeep.forget)
    assert write(lambda tx: ledger.accept(tx, submission("again"))).existed is False
    now = write(claims.claim).epoch
    assert now != former
    assert write(lambda tx: ledger.finish(tx, "again", former, "execution_error", {})) is None, "a late worker"
    store.close()
