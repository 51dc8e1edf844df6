"""A picture that was interrupted in the middle is the picture that would have been."""

import asyncio
import os
import signal

from graphflow_server.queue import Submission
from PIL import Image

from graphflow import Engine, Settings, Workflow


def pixels(path):
    with Image.open(path) as opened:
        return opened.tobytes()


def test_a_sampler_whose_process_is_killed_goes_on_and_draws_the_same_picture(place, run, tmp_path):
    nodes = Workflow.load("workflows/text_to_image.json")
    graph = (
        nodes.set("KSampler.steps", 120).set("KSampler.sampler_name", "dpmpp_2m").set("EmptyLatentImage.batch_size", 1)
    )

    async def check():
        async with place.queue() as queue:
            steps = []
            queue.subscribe(lambda event: steps.append(event.data["value"]) if event.type == "progress" else None)
            first = await queue.submit(Submission(graph.to_json()))
            while not steps or steps[-1] < 3:
                await asyncio.sleep(0.005)
            os.kill(queue.worker.pid, signal.SIGKILL)
            before = steps[-1]
            steps.clear()
            resumed = await queue.wait(first.prompt_id, 240)
            assert (resumed.state, resumed.crashes) == ("done", 1)
            assert steps[0] >= before - 1, "the steps that were done are not done again"
        (shown,) = [item for node in resumed.outputs.values() for item in node["images"]]
        with Engine(settings=Settings(output_dir=tmp_path / "other")) as engine:
            whole = engine.run(graph)
        assert pixels(place.root / "output" / shown["filename"]) == pixels(whole.images[0].path)

    run(check())
