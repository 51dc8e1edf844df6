"""What KubeRay starts by deploy/kuberay.yaml, as processes of this machine: the server, the head and a node of the Ray
cluster, and the job whose workers draw a prompt. Skipped where Ray with its dashboard is not installed.

The commands, their environment and the probe of the server come from the manifest. What the operator adds is written
down here, from its documentation: options of `ray start`, the probes of Ray's pods, and `ray job submit`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.s3_server import CREDENTIALS, environment, s3_server
from tests.server.worker.ray_nodes import tree

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-tests"
BUCKET = "graphflow"
RAY = (sys.executable, "-m", "ray.scripts.scripts")
DASHBOARD = ("ray", "opencensus", "aiohttp_cors")


def manifest():
    """Kind of an object -> its specification."""
    return {item["kind"]: item["spec"] for item in yaml.safe_load_all((ROOT / "deploy" / "kuberay.yaml").read_text())}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def changed(command, **values):
    """The command with other values of options that it has."""
    for name, value in values.items():
        option = f"--{name.replace('_', '-')}="
        places = [at for at, word in enumerate(command) if word.startswith(option)]
        assert places, f"the manifest has no {option}"
        command = [f"{option}{value}" if at in places else word for at, word in enumerate(command)]
    return command


def variables(container):
    """The environment of a container, with what the secret gives that the first lines of the manifest make."""
    found = {item["name"]: item["value"] for item in container.get("env", ())}
    if any(source["secretRef"]["name"] == "graphflow" for source in container.get("envFrom", ())):
        found |= {"token": TOKEN, **CREDENTIALS}
    return found


def ray_options(group, **added):
    """The options of `ray start` in a pod of the group: the operator takes its resources from the limits."""
    container = group["template"]["spec"]["containers"][0]
    limits = container["resources"]["limits"]
    found = {"memory": int(limits["memory"].removesuffix("Gi")) << 30, **group["rayStartParams"]}
    if "nvidia.com/gpu" in limits:
        found.setdefault("num-gpus", limits["nvidia.com/gpu"])
    found |= {name.replace("_", "-"): value for name, value in added.items()}
    return [f"--{name}={value}" for name, value in found.items()]


def text_of(url, **headers):
    """What it answers, or why it does not."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.read().decode()
    except OSError as error:
        return f"no answer: {error}"


def until(check, seconds, what):
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"within {seconds} s: {what()}"
        time.sleep(0.25)
    return found


class Pods:
    """The containers that run, each a process with a log."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []

    def start(self, name, command, container, **more):
        folder = self.folder / name
        folder.mkdir()
        # A machine of the tests is no pod: what only the developer's shell has is not there.
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "RAY_", "GRAPHFLOW_"))}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**kept, "PATH": path, "GRAPHFLOW_CACHE": f"{folder}/cache", **variables(container), **more},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)

    def log(self, name):
        return (self.folder / name / "log").read_text(errors="replace")

    def close(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            pids = tree(process.pid)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def pods(tmp_path):
    if lacking := [name for name in DASHBOARD if find_spec(name) is None]:
        pytest.skip(f"Ray with its dashboard is not installed ({', '.join(lacking)}): pip install 'ray[default]'")
    found = Pods(tmp_path)
    yield found
    found.close()


@pytest.fixture
def store():
    s3fs = pytest.importorskip("s3fs", reason="needs the extra `remote`")
    with s3_server() as url:
        files = s3fs.S3FileSystem(key="testing", secret="testing", endpoint_url=url)
        files.mkdir(BUCKET)
        yield url, files


def test_the_pods_of_the_manifest_find_each_other_and_draw_a_prompt(tmp_path, pods, store):
    found = manifest()
    s3, files = store
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "models").mkdir()
    own = {"token_file": tmp_path / "token", "models": tmp_path / "models"}

    server = found["Deployment"]["template"]["spec"]["containers"][0]
    port = free_port()
    command = changed(server["args"], host="127.0.0.1", **own)
    pods.start("server", [sys.executable, "-m", "graphflow", *command, f"--port={port}"], server)
    url, probe = f"http://127.0.0.1:{port}", server["readinessProbe"]["httpGet"]
    headers = {header["name"]: header["value"] for header in probe["httpHeaders"]}
    assert probe["port"] == server["ports"][0]["containerPort"] == 8188, "the port where nothing states another one"
    until(lambda: '"ok"' in text_of(f"{url}{probe['path']}", **headers), 60, lambda: pods.log("server"))

    cluster = found["RayJob"]["rayClusterSpec"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    gcs, dashboard, agents = free_port(), free_port(), [free_port(), free_port()]
    # The paths of Ray's sockets are too long for the system below a folder of pytest.
    with tempfile.TemporaryDirectory(prefix="gf", ignore_cleanup_errors=True) as short:
        options = ray_options(
            head,
            port=gcs,
            dashboard_host="127.0.0.1",
            dashboard_port=dashboard,
            dashboard_agent_listen_port=agents[0],
            metrics_export_port=free_port(),
            temp_dir=short,
        )
        container = head["template"]["spec"]["containers"][0]
        address = f"127.0.0.1:{gcs}"
        pods.start("head", [*RAY, "start", "--head", "--block", *options], container, RAY_ADDRESS=address)
        gcs_health = f"http://127.0.0.1:{dashboard}/api/gcs_healthz"
        until(lambda: "success" in text_of(gcs_health), 120, lambda: pods.log("head"))
        options = ray_options(
            workers, address=address, dashboard_agent_listen_port=agents[1], metrics_export_port=free_port()
        )
        container = workers["template"]["spec"]["containers"][0]
        pods.start("worker", [*RAY, "start", "--block", *options], container, RAY_ADDRESS=address, **environment(s3))
        for name, agent in zip(("head", "worker"), agents, strict=True):
            raylet = f"http://127.0.0.1:{agent}/api/local_raylet_healthz"
            until(lambda raylet=raylet: "success" in text_of(raylet), 120, lambda name=name: pods.log(name))

        command = changed(
            found["RayJob"]["entrypoint"].split(),
            connect=url,
            count=1,
            cache_dir=tmp_path / "data" / "cache",
            work_dir=tmp_path / "data" / "work",
            **own,
        )
        command.append("--device=cpu")  # Ray takes it for a GPU, and there is none
        job = [*RAY, "job", "{}", "--address", f"http://127.0.0.1:{dashboard}"]

        def ask(verb, *more):
            words = [verb if word == "{}" else word for word in job]
            return subprocess.run([*words, *more], capture_output=True, text=True).stdout

        submitted = ask("submit", "--submission-id", "workers", "--no-wait", "--", *command)
        assert "submitted successfully" in submitted, submitted
        signed = {"Authorization": f"Bearer {TOKEN}"}
        until(
            lambda: '"@ray 1"' in text_of(f"{url}/workers", **signed), 120, lambda: submitted + ask("logs", "workers")
        )
        done = drawn(url, signed)
        assert done["state"] == "done", done
        images = [item["filename"] for node in done["outputs"].values() for item in node["images"]]
        assert len(images) == 4 and all((tmp_path / "server" / "output" / name).stat().st_size for name in images)
        assert files.find(f"{BUCKET}/cache"), "the workers share what they have done"
        ask("stop", "workers")
        assert "was stopped" in ask("status", "workers")
        until(lambda: '"@ray 1"' not in text_of(f"{url}/workers", **signed), 30, lambda: pods.log("server"))


def drawn(url, headers):
    """A prompt of the built-in model, when it has ended."""
    prompt = json.loads((ROOT / "workflows" / "text_to_image.json").read_text())
    body = json.dumps({"prompt": prompt}).encode()
    asked = urllib.request.Request(f"{url}/prompt?wait=120", body, {**headers, "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=150) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()) from None
