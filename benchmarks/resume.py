"""Kill -9 at every step of every sampler, and see that the picture is the one that would have been.

`python -m benchmarks.resume`

For each sampler the shipped model draws a latent once without interruption. Then, for each step, one process is killed
when it tells that step, and another goes on with what the first has left in the cache: its latent must have the same
bits, and at most one step may be done again. The processes are forks of one that has loaded the libraries already.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import graphflow_nodes.families.kits.clip_network
import graphflow_nodes.families.kits.kl_vae_network
import graphflow_nodes.families.kits.unet_network
import graphflow_nodes.families.stable_diffusion.text
import graphflow_nodes.files.load
import graphflow_nodes.library
import graphflow_nodes.samplers.run
import graphflow_nodes.samplers.table  # noqa: F401
import torch
from graphflow_nodes.samplers.names import SAMPLER_NAMES
from safetensors.numpy import load_file

import graphflow as gf

SHIPPED = Path(__file__).parents[1] / "workflows" / "text_to_image.json"


def workflow(sampler: str, steps: int) -> gf.Workflow:
    """The shipped picture up to its latent, which is saved."""
    document = gf.Workflow.load(SHIPPED).to_json()
    document = {key: node for key, node in document.items() if node["class_type"] not in ("VAEDecode", "SaveImage")}
    (key,) = (key for key, node in document.items() if node["class_type"] == "KSampler")
    document[key]["inputs"] |= {"sampler_name": sampler, "steps": steps, "seed": 5}
    document["saved"] = {"class_type": "SaveLatent", "inputs": {"samples": [key, 0]}}
    return gf.Workflow.from_json(document)


def in_a_process(work: Callable[[], None]) -> int:
    """The exit code of a fork that does the work: minus the signal if one has killed it."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(wanted: gf.Workflow, folder: Path, cached: bool, kill_at: int | None = None) -> None:
    """Run it, keeping the latent's bytes and the steps that it reports in the folder; it dies at its report `kill_at`,
    counted from 1."""
    settings = gf.Settings(output_dir=folder / "output", checkpoint_every=0.0)
    steps: list[int] = []

    def note(event: gf.events.Event) -> None:
        if isinstance(event, gf.events.Progress):
            steps.append(event.step)
            if len(steps) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    cache = gf.Cache(folder / "cache") if cached else gf.Cache(memory=0)
    with gf.Engine(settings=settings, cache=cache) as engine:
        result = engine.run(wanted, on_event=note)
    latent = load_file(result["SaveLatent"].ui["latents"][0]["path"])["latent_tensor"]
    (folder / "latent").write_bytes(latent.tobytes())
    (folder / "steps").write_text(" ".join(map(str, steps)))


def killed_and_resumed(wanted: gf.Workflow, folder: Path, report: int, step: int) -> tuple[bytes, int]:
    """The latent after a kill at a report, that of this step, and how many steps that were done were done again."""
    if in_a_process(lambda: run(wanted, folder, cached=True, kill_at=report)) != -signal.SIGKILL:
        raise SystemExit(f"report {report}: the process was not killed")
    if in_a_process(lambda: run(wanted, folder, cached=True)) != 0:
        raise SystemExit(f"report {report}: the second process failed")
    told = [int(text) for text in (folder / "steps").read_text().split()]
    return (folder / "latent").read_bytes(), step - (told[0] - 1) if told else 0


def at_every_step(sampler: str, steps: int) -> tuple[int, int, int]:
    """How many kills there were, after how many the latent had the same bits, and the most steps that were done again.

    Some samplers make more or fewer steps than the schedule has levels, and report one several times.
    """
    wanted, same, again = workflow(sampler, steps), 0, 0
    with tempfile.TemporaryDirectory(prefix="graphflow-resume-") as name:
        whole, killed = Path(name, "whole"), Path(name, "killed")
        whole.mkdir()
        if in_a_process(lambda: run(wanted, whole, cached=False)) != 0:
            raise SystemExit(f"{sampler}: the run without interruption failed")
        expected = (whole / "latent").read_bytes()
        told = [int(text) for text in (whole / "steps").read_text().split()]
        for report, step in enumerate(told[1:], 2):  # the first is that the sampling begins
            killed.mkdir()
            latent, repeated = killed_and_resumed(wanted, killed, report, step)
            same, again = same + (latent == expected), max(again, repeated)
            shutil.rmtree(killed)
    return len(told) - 1, same, again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--samplers", nargs="*", choices=SAMPLER_NAMES, default=list(SAMPLER_NAMES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    different = 0
    print("sampler                    kills  same bits  steps again (most)  seconds")
    for sampler in options.samplers:
        began = time.perf_counter()
        kills, same, again = at_every_step(sampler, options.steps)
        different += kills - same
        print(f"{sampler:28} {kills:3} {same:10} {again:19} {time.perf_counter() - began:8.1f}", flush=True)
    print(f"{different} latents differ" if different else "every latent has the bits of the run without interruption")
    if different:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
