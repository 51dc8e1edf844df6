"""What waits for a slow websocket client."""

from __future__ import annotations

import asyncio

import pytest
from graphflow_server.live.outbox import Outbox, OutboxClosed, Rank
from hypothesis import given
from hypothesis import strategies as st


def drained(outbox: Outbox) -> list[str | bytes]:
    async def drain() -> list[str | bytes]:
        found = []
        while outbox.size:
            found.append(await outbox.get())
        return found

    return asyncio.run(drain())


def test_state_messages_arrive_all_and_in_order():
    outbox = Outbox(1000)
    for index in range(5):
        outbox.put(f"state {index}", Rank.STATE)
    assert drained(outbox) == [f"state {index}" for index in range(5)]


def test_newer_progress_takes_the_place_of_older_that_still_waits():
    outbox = Outbox(1000)
    outbox.put("1 of 9", Rank.PROGRESS, ("progress", "3"))
    outbox.put("state", Rank.STATE)
    outbox.put("2 of 9", Rank.PROGRESS, ("progress", "3"))
    outbox.put("other node", Rank.PROGRESS, ("progress", "4"))
    assert drained(outbox) == ["2 of 9", "state", "other node"]


def test_previews_are_dropped_before_progress_and_state_messages_never():
    outbox = Outbox(100)
    outbox.put(b"p" * 60, Rank.PREVIEW, ("preview", "3"))
    outbox.put("g" * 30, Rank.PROGRESS, ("progress", "3"))
    outbox.put("s" * 50, Rank.STATE)
    assert outbox.size == 80
    outbox.put("t" * 90, Rank.STATE)
    assert drained(outbox) == ["s" * 50, "t" * 90]
    assert outbox.dropped == 2


def test_it_is_full_above_half_of_its_limit_until_it_is_below_a_quarter():
    async def check() -> None:
        outbox = Outbox(100)
        for _ in range(3):
            assert not outbox.is_full
            outbox.put("s" * 20, Rank.STATE)
        assert outbox.is_full
        await outbox.get()
        assert outbox.is_full
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(outbox.room(), 0.01)
        await outbox.get()
        await outbox.room()
        assert not outbox.is_full

    asyncio.run(check())


def test_an_outbox_that_was_too_slow_gives_nothing_more():
    async def check() -> None:
        outbox = Outbox(100)
        outbox.put("s", Rank.STATE)
        outbox.close(slow=True)
        assert outbox.was_slow.is_set()
        with pytest.raises(OutboxClosed) as closed:
            await outbox.get()
        assert closed.value.slow

    asyncio.run(check())


def test_a_closed_outbox_gives_what_it_has_and_then_ends():
    async def check() -> None:
        outbox = Outbox(100)
        outbox.put("last words", Rank.STATE)
        outbox.close()
        outbox.put("too late", Rank.STATE)
        assert await outbox.get() == "last words"
        with pytest.raises(OutboxClosed) as closed:
            await outbox.get()
        assert not closed.value.slow

    asyncio.run(check())


PUT = st.tuples(st.sampled_from(list(Rank)), st.integers(0, 3), st.integers(1, 40))


@given(st.lists(PUT | st.just("get"), max_size=60), st.integers(100, 200))
def test_whatever_comes_it_stays_below_its_limit_and_loses_no_state_message(actions, limit):
    async def check() -> None:
        outbox = Outbox(limit)
        sent: list[str] = []
        got: list[str | bytes] = []
        for index, action in enumerate(actions):
            if action == "get":
                if outbox.size:
                    got.append(await outbox.get())
                continue
            rank, key, size = action
            if rank is Rank.STATE and outbox.is_full:
                continue
            text = f"{index:03}{rank.name[0]}" + "x" * size
            outbox.put(text, rank, None if rank is Rank.STATE else (rank.name, str(key)))
            if rank is Rank.STATE:
                sent.append(text)
            assert outbox.size <= limit
        outbox.close()
        try:
            while True:
                got.append(await outbox.get())
        except OutboxClosed:
            pass
        assert [text for text in got if text[3] == "S"] == sent

    asyncio.run(check())
