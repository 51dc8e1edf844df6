"""One workflow on several devices: the halves of guidance, and samplers that do not need each other. The devices are
two threads of the CPU."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, current_thread

import pytest
import torch
from graphflow_nodes.devices import forward
from graphflow_nodes.devices.device import find_devices, numerics_of
from graphflow_nodes.devices.environment import sampling
from graphflow_nodes.devices.forward import ForwardCall
from graphflow_nodes.devices.use import Device, pool_of
from graphflow_nodes.model.row import Row
from graphflow_nodes.samplers.divided import Helper, answered_by_all

import graphflow as gf
from graphflow.spi import NodeAnew, PassesMade, Progress

WORKFLOW = gf.Workflow.load("workflows/text_to_image.json").set_all(
    {"EmptyLatentImage.width": 64, "EmptyLatentImage.height": 64, "KSampler.steps": 3}
)


def latents(folder, device, batch=1, workflow=WORKFLOW, **stated):
    """The latents of the samplers of a run, and what each device did."""
    made = []
    settings = gf.Settings(output_dir=folder, device=device, **stated)
    with gf.Engine(settings=settings, cache=gf.Cache()) as engine:
        result = engine.run(
            workflow.set("EmptyLatentImage.batch_size", batch),
            targets=[name for name, node in workflow.items() if node.class_type == "KSampler"],
            on_event=lambda event: made.append(event) if isinstance(event, PassesMade) else None,
        )
        found = [one.outputs["LATENT"]["samples"] for one in result.nodes.values() if "LATENT" in one.outputs]
    return found, {event.device: (event.rows, event.sizes) for event in made}


def test_the_halves_of_guidance_have_the_same_bits_on_one_device_and_on_two(tmp_path):
    for batch, size in ((1, 1), (3, 4)):
        (one,), alone = latents(tmp_path, "cpu", batch, cfg_split=True)
        (two,), both = latents(tmp_path, "cpu+cpu", batch, cfg_split=True)
        assert alone == {"cpu": (6 * batch, {size: 6})}
        assert both == {"cpu": (3 * batch, {size: 3}), "cpu:1": (3 * batch, {size: 3})}
        assert torch.equal(one, two)
    (whole,), _ = latents(tmp_path, "cpu+cpu", 1)
    (halves,), _ = latents(tmp_path, "cpu+cpu", 1, cfg_split=True)
    assert torch.allclose(whole, halves, atol=1e-3)
    here, there = ({part.key: part.module for part in pool_of(name).parts} for name in ("cpu", "cpu:1"))
    pairs = [(here[key], module) for key, module in there.items() if key in here]
    assert pairs
    for module, other in pairs:  # two networks, the weights once
        assert module is not other
        assert [w.data_ptr() for w in module.parameters()] == [w.data_ptr() for w in other.parameters()]


SAMPLER = WORKFLOW.find("KSampler")
KILLED = """
import os, signal, sys
import graphflow as gf
from graphflow.spi import Progress
workflow = gf.Workflow.load(sys.argv[1]).set_all({"EmptyLatentImage.width": 64, "EmptyLatentImage.height": 64,
    "EmptyLatentImage.batch_size": 1, "KSampler.steps": 6})
def listen(event):
    if isinstance(event, Progress) and event.step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
settings = gf.Settings(output_dir=sys.argv[2], device="cpu+cpu", cfg_split=True, checkpoint_every=0.0)
gf.Engine(settings=settings, cache=gf.Cache(sys.argv[2] + "/cache")).run(workflow, on_event=listen)
"""


@pytest.fixture
def sampled(tmp_path):
    """`sampled(device)`: the latent of six steps in halves, from a state that the folder holds; and its events."""

    def run(device, cancel=None, at=0, folder=tmp_path, **stated):
        events = []

        def listen(event):
            events.append(event)
            if cancel is not None and isinstance(event, Progress) and event.step == at:
                cancel.set()

        settings = gf.Settings(output_dir=folder, device=device, cfg_split=True, checkpoint_every=0.0, **stated)
        workflow = WORKFLOW.set_all({"EmptyLatentImage.batch_size": 1, "KSampler.steps": 6})
        with gf.Engine(settings=settings, cache=gf.Cache(folder / "cache")) as engine:
            result = engine.run(workflow, targets=[SAMPLER], on_event=listen, cancel=cancel)
        return result[SAMPLER].outputs["LATENT"]["samples"], events

    return run


def steps_of(events):
    return [event.step for event in events if isinstance(event, Progress)]


def test_halves_that_were_cancelled_or_killed_go_on_from_their_state_on_any_number_of_devices(sampled, tmp_path):
    (tmp_path / "undisturbed").mkdir()
    wanted, events = sampled("cpu", folder=tmp_path / "undisturbed")
    previews = [event.preview() for event in events if isinstance(event, Progress) and event.preview]
    assert len(previews) == 6 and all(preview.startswith(b"\xff\xd8") for preview in previews)
    with pytest.raises(gf.Cancelled):
        sampled("cpu+cpu", Event(), at=2)
    assert not any(pool_of(name).loop._seats for name in ("cpu", "cpu:1")), "nobody holds a place at a device"
    found, events = sampled("cpu")
    assert steps_of(events)[0] >= 1, "it goes on"
    assert torch.equal(found, wanted)
    command = [sys.executable, "-c", KILLED, "workflows/text_to_image.json", str(tmp_path / "killed")]
    assert subprocess.run(command, timeout=300).returncode == -signal.SIGKILL
    found, events = sampled("cpu+cpu", folder=tmp_path / "killed")
    assert steps_of(events)[0] >= 1
    assert all(event.preview for event in events if isinstance(event, Progress) and event.step > steps_of(events)[0])
    assert torch.equal(found, wanted)


def test_a_device_that_raises_in_its_half_fails_the_run_and_nothing_later(sampled, monkeypatch, tmp_path):
    once, error, passes = forward._forward_once, ValueError("broken"), []

    def broken(call, rows, device):
        if current_thread().name == "graphflow-cpu:1":
            passes.append(len(rows))
            if len(passes) > 2 and len(rows) > limit:
                raise error
        return once(call, rows, device)

    limit = 0
    monkeypatch.setattr(forward, "_forward_once", broken)
    with pytest.raises(gf.NodeFailed, match="broken"):
        sampled("cpu+cpu")
    assert not any(pool_of(name).loop._seats for name in ("cpu", "cpu:1"))
    limit, error = 1, torch.OutOfMemoryError("injected")
    (tmp_path / "shared").mkdir()
    found, events = sampled("cpu+cpu", folder=tmp_path / "shared", together=4)
    assert [event.node for event in events if isinstance(event, NodeAnew)] == [SAMPLER]
    monkeypatch.undo()
    wanted, events = sampled("cpu+cpu")
    assert steps_of(events)[0] >= 1, "it goes on from the state before the error"
    assert torch.equal(found, wanted), "the memory of one device was short for shared passes: as alone"


def test_without_guidance_there_is_nothing_to_divide(tmp_path):
    _, made = latents(tmp_path, "cpu+cpu", workflow=WORKFLOW.set("KSampler.cfg", 1.0), cfg_split=True)
    assert made == {"cpu": (3, {1: 3})}


def test_a_recipe_states_halves_and_not_the_devices():
    def recipe(**stated):
        return sampling(gf.Settings(**stated))

    assert recipe(device="cpu") == recipe(device="cpu+cpu") != recipe(device="cpu", cfg_split=True)
    assert recipe(device="cpu", cfg_split=True) == recipe(device="cpu+cpu", cfg_split=True)


def test_samplers_that_do_not_need_each_other_compute_on_two_devices_at_once(tmp_path):
    nodes = WORKFLOW.to_json()
    sampler = next(name for name, node in nodes.items() if node["class_type"] == "KSampler")
    nodes["other"] = {**nodes[sampler], "inputs": {**nodes[sampler]["inputs"], "seed": 5}}
    decode = next(name for name, node in nodes.items() if node["class_type"] == "VAEDecode")
    nodes["shown"] = {"class_type": "VAEDecode", "inputs": {**nodes[decode]["inputs"], "samples": ["other", 0]}}
    nodes["kept"] = {"class_type": "PreviewImage", "inputs": {"images": ["shown", 0]}}
    both, used = Barrier(2), {}

    def listen(event):
        if isinstance(event, Progress) and event.node in (sampler, "other") and event.step == 1:
            both.wait(60)  # each sampler waits in its first step for that of the other
        if isinstance(event, PassesMade):
            used[event.device] = event.rows

    def samples(device, on_event=None):
        settings = gf.Settings(output_dir=tmp_path, device=device)
        with gf.Engine(settings=settings, cache=gf.Cache()) as engine:
            result = engine.run(gf.Workflow.from_json(nodes), targets=[sampler, "other"], on_event=on_event)
            return [result[name].outputs["LATENT"]["samples"] for name in (sampler, "other")]

    found = samples("cpu+cpu", listen)
    assert set(used) == {"cpu", "cpu:1"}
    assert all(map(torch.equal, found, samples("cpu"))), "the bits of one device"


def test_a_device_that_fails_fails_the_question_when_the_others_have_answered():
    done = []

    def forward(module, stacked, common, ragged):
        done.append(module.name)
        if module.name == "bad":
            raise ValueError("broken")
        return {"out": stacked["x"]}

    def network(name):
        module = torch.nn.Module()
        module.name = name
        return ForwardCall("n", module, forward)

    first, second = (Device(pool_of(name), torch.float32) for name in ("cpu:1", "cpu"))
    order = []

    def network_of(name):
        return lambda device: order.append(device.pool.name) or network("good" if device is first else name)

    rows = [Row({"x": torch.full((2,), float(at))}) for at in range(4)]
    with first.loop.seat(2) as seat, second.loop.seat(2) as other, ThreadPoolExecutor(1) as pool:
        for name in ("bad", "good"):
            ask = pool.submit(answered_by_all, first, seat, rows, [Helper(second, other)], network_of(name))
            if name == "bad":
                with pytest.raises(ValueError, match="broken"):
                    ask.result(60)
            else:
                assert [answer["out"][0] for answer in ask.result(60)] == [0.0, 1.0, 2.0, 3.0]
    assert sorted(done) == ["bad", "good", "good", "good"]
    assert order == ["cpu", "cpu:1"] * 2, "memory is asked for in one order, whichever device is the first"


@pytest.mark.parametrize("device", ["cpu+cuda", "auto+cpu", "cpu+", "cpu+gpu"])
def test_what_cannot_be_joined_is_a_problem_that_names_what_can(device):
    with pytest.raises(gf.GraphFlowError, match=r"cuda:0\+cuda:1"):
        numerics_of(gf.Settings(device=device))


def test_a_cpu_is_as_many_devices_as_somebody_names():
    assert [str(device) for device in find_devices(gf.Settings(device="cpu+cpu+cpu"))] == ["cpu", "cpu:1", "cpu:2"]
