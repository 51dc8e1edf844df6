"""What importing does: nothing but define names."""

import json
import subprocess
import sys
from pathlib import Path

import graphflow as gf

ROOT = Path(__file__).parents[3]

PROBE = """
import json, socket, sys, threading
opened = []
real = socket.socket.bind
socket.socket.bind = lambda self, address: (opened.append(str(address)), real(self, address))[1]
import graphflow as gf
from graphflow_nodes import api as n
names_before = sorted(sys.modules)
with gf.Graph() as g:
    model, clip, vae = n.CheckpointLoaderSimple(ckpt_name="graphflow-tiny")
    latent = n.EmptyLatentImage(width=64, height=64)
engine = gf.Engine()
engine.validate(g.workflow)
print(json.dumps({
    "threads": threading.active_count(), "opened": opened,
    "heavy": [name for name in ("torch", "diffusers", "transformers", "aiohttp", "asyncio") if name in sys.modules],
    "nodes_at_import": "graphflow_nodes.library" in names_before,
}))
"""


def test_importing_building_and_checking_start_no_thread_open_no_port_and_load_no_model_library():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=300)
    found = json.loads(done.stdout)
    heavy = [name for name in found["heavy"] if name != "asyncio"]
    assert (found["threads"], found["opened"], heavy, found["nodes_at_import"]) == (1, [], [], False)


def test_two_engines_in_one_process_keep_their_folders_and_caches_apart(tmp_path):
    workflow = gf.Workflow.load(ROOT / "workflows" / "text_to_image.json").set("KSampler.steps", 2)
    workflow = workflow.set("EmptyLatentImage.batch_size", 1)
    with (
        gf.Engine(settings=gf.Settings(output_dir=tmp_path / "one")) as one,
        gf.Engine(settings=gf.Settings(output_dir=tmp_path / "two")) as two,
    ):
        first, second = one.run(workflow), two.run(workflow)
    assert first.timings.keys() == second.timings.keys()
    pictures = [result.images[0].path for result in (first, second)]
    assert [path.parent.name for path in pictures] == ["one", "two"]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
