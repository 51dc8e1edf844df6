"""Ways to wait until a prompt of a queue has got somewhere."""

import asyncio

__all__ = ["event_of", "step_of", "steps_done", "until"]


async def until(check):
    """Wait until it holds; the test as a whole has a limit."""
    while not check():
        await asyncio.sleep(0.01)


async def event_of(queue, prompt_id, kind, count=1):
    """Wait until the prompt has had so many events of a kind."""
    async for event in queue.follow(prompt_id):
        count -= event.type == kind
        if count == 0:
            return event
    raise AssertionError(f"there was no {kind}")


async def step_of(queue, prompt_id, step):
    """Wait until a node has told of this step; it may be there already."""
    reached = asyncio.Event()
    stop = queue.subscribe(
        lambda event: (
            reached.set()
            if event.type == "progress" and event.prompt_id == prompt_id and event.data["value"] >= step
            else None
        )
    )
    live = queue.progress(prompt_id)
    if live is None or max((state["value"] for state in live.data["nodes"].values()), default=0) < step:
        await reached.wait()
    stop()


def steps_done(place, name):
    return (place.root / "output" / f"steps-{name}.log").read_text().split()
