"""Workers that share an S3 store: one that is killed leaves its state to the others, and without the store a prompt is
drawn anew. Either way its bits are those of a run that nothing disturbs."""

import asyncio
import json
import signal
from contextlib import ExitStack

import numpy as np
import pytest
from graphflow_server.queue import Submission
from PIL import Image

import graphflow as gf
from tests.s3_server import CREDENTIALS, environment, s3_server
from tests.server.queue.watching import step_of
from tests.server.worker.test_remote import serving

BUCKET = "graphflow-test"
STEPS = 24


def image_of(name):
    """A prompt that keeps a state at each of its steps."""
    return gf.Workflow.from_json(
        {
            "m": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
            "t": {"class_type": "CLIPTextEncode", "inputs": {"text": f"a red apple {name}", "clip": ["m", 1]}},
            "l": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
            "s": {
                "class_type": "KSampler",
                "inputs": {
                    **{"model": ["m", 0], "positive": ["t", 0], "negative": ["t", 0], "latent_image": ["l", 0]},
                    **{"seed": 1, "steps": STEPS, "cfg": 4.0, "sampler_name": "dpmpp_2m", "scheduler": "normal"},
                    "denoise": 1.0,
                },
            },
            "d": {"class_type": "VAEDecode", "inputs": {"samples": ["s", 0], "vae": ["m", 2]}},
            "o": {"class_type": "SaveImage", "inputs": {"images": ["d", 0], "filename_prefix": name}},
        }
    )


def pixels(path):
    return np.asarray(Image.open(path)).tobytes()


@pytest.fixture
def undisturbed(tmp_path):
    """The pixels of a run here, without a shared store."""
    with gf.Engine(settings=gf.Settings(output_dir=tmp_path / "here"), cache=gf.Cache(tmp_path / "alone")) as engine:
        yield lambda name: pixels(engine.run(image_of(name)).images[0].path)


def test_a_killed_worker_leaves_its_state_in_the_store_and_a_store_that_goes_away_costs_steps_only(
    tmp_path, undisturbed
):
    s3fs = pytest.importorskip("s3fs", reason="needs the extra `remote`")

    async def work(url, stop_store):
        options = ("--cache-remote", f"s3://{BUCKET}/cache")
        shared = {"options": options, "environment": {**CREDENTIALS, **environment(url)}}

        async def interrupted(site, name, before):
            """The steps that the other worker made; `before` runs just before the first one is killed."""
            await site.queue.submit(Submission(image_of(name).to_json(), prompt_id=name))
            await step_of(site.queue, name, 6)
            holder = site.holder(name)
            before()
            holder.signal(signal.SIGKILL)
            while any(f"@{holder.name}" == status.name and status.prompts for status in site.queue.workers):
                await asyncio.sleep(0.01)
            done = await site.queue.wait(name, 120)
            assert (done.state, done.crashes) == ("done", 0) and done.worker != f"@{holder.name}"
            (file,) = (tmp_path / "output").glob(f"{name}*.png")
            assert pixels(file) == await asyncio.to_thread(undisturbed, name), "not a bit differs"
            return [step for _, step, _, _ in json.loads(await site.queue.trace(name))["steps"]]

        async with serving(tmp_path) as site:
            try:
                for name in ("one", "two"):
                    await site.machine(name, **shared)
                await site.joined(2)
                steps = await interrupted(site, "shared", lambda: None)
                assert min(steps) >= 5 and max(steps) == STEPS, "the other one went on from the stored state"
                await site.machine("three", **shared)
                await site.joined(2)
                steps = await interrupted(site, "alone", stop_store)
                assert min(steps) <= 1 and max(steps) == STEPS, "without the store it was drawn from its first step"
            finally:
                await asyncio.gather(*(machine.end() for machine in site.machines))

    with ExitStack() as store:
        url = store.enter_context(s3_server())
        s3fs.S3FileSystem(key="testing", secret="testing", endpoint_url=url).mkdir(BUCKET)
        asyncio.run(asyncio.wait_for(work(url, store.close), 400))
