"""The ledger against a reference of a few lines: submit, claim, finish, cancel, move, crash, restart, in any order."""

import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from graphflow_server.queue import Conflict, QueueUnavailable, Submission, claims, ledger, reading, upkeep
from graphflow_server.queue.store import QueueStore
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

LIMIT = 2
MOST = 3
"""How many prompts of one sender may wait."""
IDS = st.sampled_from([f"p{at}" for at in range(8)])
ENDS = {"execution_success": "done", "execution_error": "failed"}


@dataclass
class Known:
    """What the reference knows of a prompt."""

    text: str
    number: float
    order: int
    sender: str
    state: str = "pending"
    crashes: int = 0
    cancelling: bool = False
    events: list[str] = field(default_factory=list)


class Ledger(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.told = []
        self.store = QueueStore(self.folder / "queue.sqlite", lambda events, _: self.told.extend(events))
        self.known: dict[str, Known] = {}
        self.accepted = 0
        self.held: tuple[str, int] | None = None
        self.old: list[tuple[str, int]] = []

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    def do(self, action):
        return self.store.write(action).result(10)

    @rule(
        prompt_id=IDS,
        text=st.sampled_from("ab"),
        front=st.booleans(),
        number=st.none() | st.sampled_from([-3.5, 0, 7]),
        sender=st.sampled_from("xy"),
    )
    def submit(self, prompt_id, text, front, number, sender):
        wanted = Submission(
            {"1": {"text": [text, front]}}, prompt_id=prompt_id, front=front, number=number, sender=sender
        )
        known = self.known.get(prompt_id)
        same = f"{text}{front}{number}"
        if known is not None and known.text != same:
            with pytest.raises(Conflict):
                self.do(lambda tx: ledger.accept(tx, wanted, MOST))
            return
        if known is None and sum(self.known[key].sender == sender for key in self.waiting()) >= MOST:
            with pytest.raises(QueueUnavailable, match="wait already"):
                self.do(lambda tx: ledger.accept(tx, wanted, MOST))
            return
        answer = self.do(lambda tx: ledger.accept(tx, wanted, MOST))
        assert answer.existed == (known is not None)
        if known is None:
            self.accepted += 1
            self.known[prompt_id] = Known(same, answer.number, self.accepted, sender)
            if number is not None:
                assert answer.number == number
            else:
                assert answer.number < 0 if front else answer.number > 0

    @precondition(lambda self: self.held is None)
    @rule()
    def claim(self):
        prompt = self.do(claims.claim)
        order = self.waiting()
        if not order:
            assert prompt is None
            return
        assert prompt is not None and prompt.id == order[0]
        self.held = prompt.id, prompt.epoch
        known = self.known[prompt.id]
        known.state = "running"
        known.events.append("execution_start")

    @precondition(lambda self: self.held is not None)
    @rule(times=st.integers(1, 2))
    def append(self, times):
        event = ("executing", json.dumps({"prompt_id": self.held[0], "node": "1", "display_node": "1"}))
        events = self.known[self.held[0]].events
        for _ in range(times):  # one that got no answer writes again
            assert self.do(lambda tx: ledger.append(tx, *self.held, [event], len(events))) == len(events) + 1
        events.append("executing")

    @precondition(lambda self: self.held is not None)
    @rule(kind=st.sampled_from(["execution_success", "execution_error", "execution_interrupted"]))
    def finish(self, kind):
        known = self.known[self.held[0]]
        if known.cancelling and kind == "execution_success":
            kind = "execution_interrupted"
        state = self.do(lambda tx: ledger.finish(tx, *self.held, kind, {"prompt_id": self.held[0]}))
        assert state == ENDS.get(kind, "cancelled")
        self.end(known, kind)

    @precondition(lambda self: self.held is not None)
    @rule()
    def release(self):
        assert self.do(lambda tx: ledger.release(tx, *self.held))
        known = self.known[self.held[0]]
        if known.cancelling:
            self.end(known, "execution_interrupted")
        else:
            known.state = "pending"
            self.let_go()

    @precondition(lambda self: self.held is not None)
    @rule()
    def crash(self):
        self.do(lambda tx: ledger.crash(tx, *self.held, "killed", LIMIT))
        self.crashed()

    @rule()
    def restart(self):
        self.store.close()
        self.store = QueueStore(self.folder / "queue.sqlite", lambda events, _: self.told.extend(events))
        self.do(lambda tx: ledger.recover(tx, LIMIT))
        if self.held is not None:
            self.crashed()

    @rule(prompt_id=IDS)
    def cancel(self, prompt_id):
        answer = self.do(lambda tx: ledger.cancel(tx, prompt_id))
        known = self.known.get(prompt_id)
        if known is None:
            assert answer == "unknown"
        elif known.state == "pending":
            assert answer == "cancelled"
            known.state = "cancelled"
            known.events.append("execution_interrupted")
        elif known.state == "running":
            assert answer == "cancelling"
            known.cancelling = True
        else:
            assert answer == "finished"

    @rule(prompt_id=IDS, number=st.none() | st.sampled_from([-1, 4.5]))
    def move(self, prompt_id, number):
        answer = self.do(lambda tx: ledger.move(tx, prompt_id, number))
        known = self.known.get(prompt_id)
        if known is None or known.state != "pending":
            assert answer is None
        else:
            assert (
                answer == number if number is not None else answer < min(self.known[i].number for i in self.waiting())
            )
            known.number = answer

    @rule()
    def forget_the_finished(self):
        gone = {key for key, known in self.known.items() if known.state not in ("pending", "running")}
        assert self.do(upkeep.forget) == len(gone)
        self.known = {key: known for key, known in self.known.items() if key not in gone}

    @precondition(lambda self: bool(self.old))
    @rule(which=st.integers(0, 100), kind=st.sampled_from(["execution_success", "execution_error"]))
    def a_late_worker_can_change_nothing(self, which, kind):
        key = self.old[which % len(self.old)]
        before = len(self.told)
        assert self.do(lambda tx: ledger.append(tx, *key, [("executing", "{}")], 0)) == 0
        assert self.do(lambda tx: ledger.finish(tx, *key, kind, {})) is None
        assert not self.do(lambda tx: ledger.release(tx, *key))
        assert self.do(lambda tx: ledger.crash(tx, *key, "late", LIMIT)) is None
        assert len(self.told) == before

    # -- the reference ----------------------------------------------------------------------------------------------

    def waiting(self):
        pending = [(known.number, known.order, key) for key, known in self.known.items() if known.state == "pending"]
        return [key for *_, key in sorted(pending)]

    def crashed(self):
        known = self.known[self.held[0]]
        known.crashes += 1
        if known.cancelling:
            self.end(known, "execution_interrupted")
        elif known.crashes >= LIMIT:
            self.end(known, "execution_error")
        else:
            known.state = "pending"
            self.let_go()

    def end(self, known, kind):
        known.state = ENDS.get(kind, "cancelled")
        known.cancelling = False
        known.events.append(kind)
        self.let_go()

    def let_go(self):
        self.old.append(self.held)
        self.held = None

    @invariant()
    def the_file_says_what_the_reference_says(self):
        if not hasattr(self, "known"):
            return

        def look(db):
            found = {row[0]: row[1:] for row in db.execute("SELECT id, state, crashes, cancelling FROM prompts")}
            order = [prompt.id for prompt in reading.listing(db, ("pending",), 100, 0, False).prompts]
            logs = {key: reading.events(db, key, 0, 1000) for key in found}
            return found, order, logs

        found, order, logs = self.store.read(look).result(10)
        assert found == {k: (known.state, known.crashes, int(known.cancelling)) for k, known in self.known.items()}
        assert order == self.waiting()
        for key, known in self.known.items():
            assert [event.type for event in logs[key]] == known.events
            assert [event.number for event in logs[key]] == list(range(1, len(known.events) + 1))
        states = [known.state for known in self.known.values()]
        assert (self.store.counts.pending, self.store.counts.running) == (
            states.count("pending"),
            states.count("running"),
        )


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
