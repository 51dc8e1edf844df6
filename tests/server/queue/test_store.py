"""The file of the queue: commits in groups, versions, damage, a full disk, one server at a time."""

import asyncio
import sqlite3
import threading
from concurrent.futures import wait

import pytest
from graphflow_server.queue import Counts, Refused, Submission, ledger, schema
from graphflow_server.queue.store import Store

from graphflow import GraphFlowError


def submission(name: str) -> Submission:
    return Submission({"1": {"class_type": "Write", "inputs": {}}}, prompt_id=name)


def test_what_is_asked_for_at_the_same_time_is_committed_in_one_go(tmp_path):
    commits = []
    store = Store(tmp_path / "q", lambda events, counts: commits.append(counts))
    gate, begun = threading.Event(), threading.Event()
    blocked = store.write(lambda _: (begun.set(), gate.wait(10)))
    begun.wait(10)
    futures = [store.write(lambda tx, at=at: ledger.accept(tx, submission(str(at)))) for at in range(100)]
    gate.set()
    wait([blocked, *futures])
    assert [future.result().number for future in futures] == list(range(1, 101))
    assert len(commits) == 2 and commits[-1] == Counts(pending=100)
    store.close()


def test_an_action_that_fails_is_undone_alone(tmp_path):
    store = Store(tmp_path / "q")

    def fail(tx):
        ledger.accept(tx, submission("half"))
        raise ValueError("no")

    gate = threading.Event()
    store.write(lambda _: gate.wait(10))
    good = store.write(lambda tx: ledger.accept(tx, submission("good")))
    bad = store.write(fail)
    gate.set()
    assert good.result(10).prompt_id == "good"
    with pytest.raises(ValueError, match="no"):
        bad.result(10)
    assert store.read(lambda db: db.execute("SELECT id FROM prompts").fetchall()).result(10) == [("good",)]
    store.close()


def test_an_acceptance_is_synced_to_the_disk(tmp_path):
    store = Store(tmp_path / "q")
    mode = store.write(
        lambda tx: (
            tx.db.execute("PRAGMA journal_mode").fetchone()[0],
            tx.db.execute("PRAGMA synchronous").fetchone()[0],
        )
    )
    assert mode.result(10) == ("wal", 2)  # 2 is FULL
    store.close()


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path):
    Store(tmp_path / "q").close()
    with sqlite3.connect(tmp_path / "q") as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(GraphFlowError, match="newer version of graphflow"):
        Store(tmp_path / "q")
    with sqlite3.connect(tmp_path / "q") as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 99


def test_an_upgrade_that_is_killed_half_way_changes_nothing_and_goes_through_later(tmp_path, monkeypatch):
    Store(tmp_path / "q").close()
    step = ("ALTER TABLE prompts ADD COLUMN more TEXT", "NOT SQL AT ALL")
    monkeypatch.setattr("graphflow_server.queue.store.MIGRATIONS", (*schema.MIGRATIONS, step))
    with pytest.raises(sqlite3.Error):
        Store(tmp_path / "q")
    monkeypatch.setattr("graphflow_server.queue.store.MIGRATIONS", (*schema.MIGRATIONS, step[:1]))
    store = Store(tmp_path / "q")
    columns = store.read(lambda db: [row[1] for row in db.execute("PRAGMA table_info(prompts)")]).result(10)
    assert columns.count("more") == 1
    store.close()


def test_a_file_that_is_no_database_is_refused_with_a_hint(tmp_path):
    (tmp_path / "q").write_bytes(b"these are not the tables you are looking for" * 100)
    with pytest.raises(GraphFlowError, match="cannot open the queue") as error:
        Store(tmp_path / "q")
    assert "move the file away" in error.value.problems[0].hint


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
            with pytest.raises(Refused, match="cannot be written") as error:
                for _ in range(100):
                    await queue.submit(prompt(write="x" * 10_000))
            assert error.value.problems[0].code == "no_disk"
            had = queue.counts.pending
            queue._store.write(lambda tx: tx.db.execute("PRAGMA max_page_count=1073741823").fetchone()).result(10)
            last = await queue.submit(prompt(write="after"))
            assert queue.counts.pending == had + 1
            queue.resume()
            assert (await queue.wait(last.prompt_id, 30)).state == "done"

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
