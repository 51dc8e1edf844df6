"""The files of deploy/: well-formed, whole, and with commands that exist and work together."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from graphflow.cli import _parser

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TOKEN = "a-token-of-the-tests"


def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def kubernetes():
    return {item["kind"]: item for item in yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text())}


def dockerfile():
    """Instruction -> its argument, of the last one of each kind."""
    text = re.sub(r"\\\n", "", (DEPLOY / "Dockerfile").read_text())
    lines = [line.partition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return {word: rest for word, _, rest in lines}


def commands():
    """All calls of graphflow, without its name."""
    yield json.loads(dockerfile()["CMD"])
    yield from (compose()["services"][name]["command"] for name in ("server", "worker-1", "worker-2"))
    found = kubernetes()
    yield found["Deployment"]["spec"]["template"]["spec"]["containers"][0]["args"]
    yield shlex.split(found["RayJob"]["spec"]["entrypoint"])[1:]


@pytest.mark.parametrize("command", list(commands()), ids=lambda command: command[0])
def test_each_command_has_options_that_exist(command):
    parser, _ = _parser(command[0])
    parsed = parser.parse_args(command)
    assert callable(parsed.command)


def test_the_image_runs_graphflow_as_a_user_and_takes_the_versions_of_the_checks():
    found = dockerfile()
    assert json.loads(found["ENTRYPOINT"]) == ["graphflow"] and found["USER"] == "1000"
    assert "-c constraints.txt" in (DEPLOY / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "deploy/secrets"} <= set(ignored)


def test_what_services_name_is_defined():
    whole = compose()
    for name, service in whole["services"].items():
        assert set(service.get("depends_on", ())) <= set(whole["services"]), name
        assert set(service.get("secrets", ())) <= set(whole["secrets"]), name
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source.startswith(".") or source in whole["volumes"], (name, volume)
    store = whole["services"]["store"]["environment"]
    worker = whole["services"]["worker-1"]["environment"]
    assert store["ROOT_ACCESS_KEY"] == worker["AWS_ACCESS_KEY_ID"]
    assert store["ROOT_SECRET_KEY"] == worker["AWS_SECRET_ACCESS_KEY"]


def test_what_pods_name_is_defined_and_their_ray_is_that_of_the_checks():
    found = kubernetes()
    cluster = found["RayJob"]["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    pods = [found["Deployment"]["spec"]["template"], cluster["headGroupSpec"]["template"], workers["template"]]
    for pod in pods:
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        for container in pod["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert f"ray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    entry = shlex.split(found["RayJob"]["spec"]["entrypoint"])
    assert f"--count={workers['replicas']}" in entry
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    assert f"http://{found['Service']['metadata']['name']}:8188" in " ".join(entry)


def test_the_server_and_a_worker_of_compose_find_each_other(tmp_path):
    """The same commands, as processes: other folders, and a port of this machine."""
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "models").mkdir()

    def started(name, *changes):
        command = list(compose()["services"][name]["command"])
        for option, value in [("--token-file", tmp_path / "token"), ("--models", tmp_path / "models"), *changes]:
            at = next(place for place, word in enumerate(command) if word.startswith(f"{option}="))
            command[at] = f"{option}={value}"
        folder = tmp_path / name
        folder.mkdir()
        return subprocess.Popen(
            [sys.executable, "-m", "graphflow", *command, *(["--port=0"] if name == "server" else [])],
            cwd=folder,
            env={**os.environ, "GRAPHFLOW_CACHE": str(folder / "cache"), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=(folder / "log").open("w"),
            text=True,
        )

    processes = [started("server", ("--host", "127.0.0.1"))]
    try:
        url = re.search(r"http://[\d.]+:\d+$", processes[0].stdout.readline().strip())[0]
        shared = ("--cache-remote", f"file://{tmp_path}/shared")
        processes += [started(name, ("--connect", url), shared) for name in ("worker-1", "worker-2")]
        asked = urllib.request.Request(f"{url}/workers", headers={"Authorization": f"Bearer {TOKEN}"})
        names, deadline = [], time.monotonic() + 120
        while len(names) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
            with urllib.request.urlopen(asked) as answer:
                names = [worker["name"] for worker in json.load(answer)["workers"]]
        assert len(names) == 2 and all(name.startswith("@") for name in names), "the server has no worker of its own"
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(60)
