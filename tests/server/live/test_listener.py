"""What one websocket is told, whatever the log and the news know first."""

import asyncio
import json

from graphflow_server.live.listener import Subscriber
from graphflow_server.live.outbox import Outbox
from graphflow_server.queue import QueueEvent


class Log:
    """A queue of which a listener sees only the log of one prompt."""

    def __init__(self):
        self.events_so_far = []

    def write(self, kind="executing"):
        event = QueueEvent("p", len(self.events_so_far) + 1, kind, "{}", "c")
        self.events_so_far.append(event)
        return event

    async def events(self, prompt_id, after, limit):
        return [event for event in self.events_so_far if event.number > after][:limit]

    def progress(self, prompt_id):
        return None


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def heard(listener):
    numbers = []
    while listener.outbox.size:
        numbers.append(json.loads(await listener.outbox.get()).get("number", "over"))
    return numbers


def test_what_the_log_has_told_before_the_news_of_it_came_is_not_told_again():
    async def check():
        log, listener = Log(), Subscriber("c", Outbox(100_000))
        first, second = log.write(), log.write()
        catching_up = asyncio.create_task(listener.catch_up(log))
        listener.begin({"p": 0})
        await settle()
        assert await heard(listener) == [1, 2], "both are in the log"
        listener.notify(first)
        listener.notify(second)
        listener.notify(log.write())
        listener.notify(log.write("execution_success"))
        await settle()
        assert await heard(listener) == [3, 4, "over"], "the news of the first two came late"
        assert not listener._read, "nothing is kept of a prompt whose news have come"
        catching_up.cancel()

    asyncio.run(check())


def test_a_client_that_fell_behind_hears_the_rest_once_though_the_log_is_ahead():
    async def check():
        log, listener = Log(), Subscriber("c", Outbox(400))
        listener.begin({})
        catching_up = asyncio.create_task(listener.catch_up(log))
        late = [log.write() for _ in range(12)]
        for event in late[:8]:
            listener.notify(event)
        numbers = []
        for _ in range(12):
            await settle()
            numbers += await heard(listener)
        for event in late[8:]:
            listener.notify(event)
        await settle()
        assert numbers + await heard(listener) == list(range(1, 13))
        catching_up.cancel()

    asyncio.run(check())
