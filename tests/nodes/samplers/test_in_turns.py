"""Runs of one engine beside each other: nobody waits for a whole sampler of another one."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import graphflow as gf
from graphflow.spi import Progress

WORKFLOW = gf.Workflow.load("workflows/text_to_image.json").set_all(
    {"EmptyLatentImage.batch_size": 1, "KSampler.sampler_name": "euler"}
)


def work(steps, text, seed=1):
    return WORKFLOW.set_all({"KSampler.steps": steps, "6.text": text, "KSampler.seed": seed})


def test_short_runs_are_encoded_sampled_and_decoded_between_the_steps_of_a_long_one(tmp_path):
    reached, cancel = Event(), Event()

    def listen(event):
        if isinstance(event, Progress) and event.total == 1000 and event.step == 3:
            reached.set()

    with gf.Engine(settings=gf.Settings(output_dir=tmp_path)) as engine, ThreadPoolExecutor(5) as pool:
        long = pool.submit(engine.run, work(1000, "a tree"), on_event=listen, cancel=cancel)
        assert reached.wait(60)
        short = [pool.submit(engine.run, work(4, f"a boat {at}", seed=at)) for at in range(4)]
        images = [one.result(60).images[0].path.read_bytes() for one in short]
        assert not long.done()
        cancel.set()
        assert isinstance(long.exception(60), gf.Cancelled)
        alone = [engine.run(work(4, f"a boat {at}", seed=at), refresh=True) for at in range(4)]
    assert images == [result.images[0].path.read_bytes() for result in alone]
