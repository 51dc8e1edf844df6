"""`--threads`, and how threads wait: settled before torch is imported."""

import os
import subprocess
import sys

import pytest

from graphflow.cli.threads import prepare_threads


def test_threads_sleep_while_they_wait_and_their_number_is_left_alone():
    variables = {"PATH": "/bin"}
    prepare_threads(None, variables)
    assert variables == {"PATH": "/bin", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_the_user_has_set_stays(name):
    variables = {name: "active", "OMP_NUM_THREADS": "7"}
    prepare_threads(None, variables)
    assert variables == {name: "active", "OMP_NUM_THREADS": "7"}


@pytest.mark.parametrize("count, stated, expected", [(None, "3", "3"), (2, "3", "2"), (2, None, "2")])
def test_the_option_wins_over_the_variable_also_in_processes_that_are_started(count, stated, expected):
    variables = {"OMP_NUM_THREADS": "9"} | ({"GRAPHFLOW_THREADS": stated} if stated else {})
    prepare_threads(count, variables)
    prepare_threads(None, variables)  # a worker process inherits them
    assert variables["OMP_NUM_THREADS"] == variables["MKL_NUM_THREADS"] == expected


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "1025", "99999999999999999999", "²"])
def test_a_wrong_number_is_code_2(call, text):
    done = call("doctor", "--threads", text)
    assert done.code == 2 and "is not a number of threads" in done.err


def test_the_variable_is_checked_too(call, monkeypatch):
    monkeypatch.setenv("GRAPHFLOW_THREADS", "many")
    done = call("doctor")
    assert done.code == 2 and "is not a number of threads" in done.err


def test_torch_computes_with_as_many_threads_as_the_option_states(tmp_path):
    unset = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "GRAPHFLOW_THREADS")
    clean = {name: value for name, value in os.environ.items() if name not in unset}
    command = [sys.executable, "-m", "graphflow", "doctor", "--threads", "1"]
    found = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=True).stdout
    assert "threads              1, which sleep while they wait" in found.splitlines()
    assert any(
        line.split() == ["number", "format", "float32", "(--dtype", "and", "--device", "choose", "others)"]
        for line in found.splitlines()
    )
