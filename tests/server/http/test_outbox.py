"""What waits for a slow websocket client."""

from __future__ import annotations

import asyncio

import pytest
from graphflow_server.outbox import Closed, Outbox, Rank
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


def test_previews_are_dropped_before_progress_and_progress_before_the_client():
    outbox = Outbox(100)
    outbox.put(b"p" * 60, Rank.PREVIEW, ("preview", "3"))
    outbox.put("g" * 30, Rank.PROGRESS, ("progress", "3"))
    outbox.put("s" * 50, Rank.STATE)
    assert outbox.size == 80
    outbox.put("t" * 40, Rank.STATE)
    assert drained(outbox) == ["s" * 50, "t" * 40]
    assert outbox.dropped == 2


def test_a_client_for_which_only_state_messages_are_too_much_is_closed():
    async def check() -> None:
        outbox = Outbox(100)
        for _ in range(3):
            outbox.put("s" * 40, Rank.STATE)
        with pytest.raises(Closed) as closed:
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
        with pytest.raises(Closed) as closed:
            await outbox.get()
        assert not closed.value.slow

    asyncio.run(check())


PUT = st.tuples(st.sampled_from(list(Rank)), st.integers(0, 3), st.integers(1, 40))


@given(st.lists(PUT | st.just("get"), max_size=60), st.integers(50, 200))
def test_whatever_comes_it_stays_below_its_limit_and_loses_no_state_message(actions, limit):
    async def check() -> None:
        outbox = Outbox(limit)
        sent: list[str] = []
        got: list[str | bytes] = []
        for index, action in enumerate(actions):
            if action == "get":
                if outbox.size:
                    try:
                        got.append(await outbox.get())
                    except Closed as closed:
                        assert closed.slow
                        return
                continue
            rank, key, size = action
            text = f"{index:03}{rank.name[0]}" + "x" * size
            outbox.put(text, rank, None if rank is Rank.STATE else (rank.name, str(key)))
            if rank is Rank.STATE:
                sent.append(text)
            if outbox._closed is None:
                assert outbox.size <= limit
            else:
                assert sum(map(len, [text for text in sent if text not in got])) > limit
                return
        outbox.close()
        try:
            while True:
                got.append(await outbox.get())
        except Closed:
            pass
        assert [text for text in got if text[3] == "S"] == sent

    asyncio.run(check())
