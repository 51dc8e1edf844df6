"""`graphflow run`: what it shows, what it writes, how it ends."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

import graphflow as gf
from graphflow.cli.changes import changed

APPLE = ("text_to_image", "--set", "KSampler.steps=1", "--set", "EmptyLatentImage.batch_size=1")


def start(arguments, environment, **options):
    command = [sys.executable, "-m", "graphflow.cli", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


def read_until(running, text):
    """Lines of standard output up to one with the text in it."""
    lines = []
    while not lines or text not in lines[-1]:
        lines.append(running.stdout.readline())
        assert lines[-1], running.stderr.read()
    return lines


def test_a_shipped_workflow_runs_by_name_and_the_paths_of_the_pictures_come_last(call, tmp_path):
    done = call("run", *APPLE)
    assert (done.code, done.out) == (0, "output/apple_00001_.png\n")
    assert (tmp_path / "output" / "apple_00001_.png").is_file()
    again = call("run", *APPLE)
    assert again.out == done.out and "KSampler: cached" in again.err and "7 cached" in again.err
    (tmp_path / "output" / "apple_00001_.png").unlink()
    assert call("run", *APPLE).out == "output/apple_00001_.png\n"


def test_a_picture_runs_again_and_its_changes_count(call, tmp_path):
    call("run", *APPLE, "--set", "9.filename_prefix=first")
    done = call("run", "output/first_00001_.png", "--set", "3.seed=5", "--set", "9.filename_prefix=second")
    assert done.out == "output/second_00001_.png\n"
    with Image.open(tmp_path / "output" / "second_00001_.png") as picture:
        assert json.loads(picture.text["prompt"])["3"]["inputs"]["seed"] == 5


def test_the_demo_needs_no_network(environment):
    """In a process of its own, where nothing has told the model libraries to stay offline."""
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('a connection was tried')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from graphflow.cli import main\n"
        f"sys.exit(main(['run', *{APPLE!r}, '--no-cache']))"
    )
    environment = {name: value for name, value in environment.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "output/apple_00001_.png\n"), done.stderr


def test_paths_outside_the_current_folder_are_whole(call, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert call("run", *APPLE, "--output-dir", elsewhere).out == f"{elsewhere}/apple_00001_.png\n"


def test_without_a_terminal_a_line_tells_of_each_node(call, write, pack):
    done = call("run", write(), "--nodes", pack)
    lines = done.err.splitlines()
    assert lines[:2] == ["The middle: done", "Show: done"]
    assert re.fullmatch(r"done in \d+\.\d\d s  2 ran", lines[2]) and done.out == ""
    assert call("run", write(), "--nodes", pack).err.startswith("The middle: cached\nShow: cached\n")


def test_quiet_says_nothing_that_is_not_a_path(call, write, pack):
    done = call("run", write(), "--nodes", pack, "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_json_prints_one_object_for_each_event(call, write, pack):
    done = call("run", write("Slow", steps=2), "--nodes", pack, "--json")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [event["event"] for event in events] == [
        "RunStarted",
        "NodeStarted",
        "Progress",
        "Progress",
        "NodeDone",
        "NodeStarted",
        "NodeDone",
        "RunDone",
    ]
    assert sorted(events[0]["nodes"]) == ["1", "2"] and events[2] == {
        "event": "Progress",
        "node": "1",
        "step": 0,
        "total": 2,
    }
    assert events[-2]["ui"] == {"value": [1]} and events[-1]["status"] == "done" and done.err == ""


def test_json_holds_the_problems_of_a_wrong_workflow(call, write, pack):
    done = call("run", write(value=1000), "--nodes", pack, "--json")
    (event,) = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 2 and event["event"] == "Problems"
    assert event["problems"][0]["code"] == "out_of_range" and "expected 0 to 100" in done.err


def test_a_wrong_workflow_is_code_2_and_nothing_runs(call, write, pack):
    done = call("run", write(value=1000), "--nodes", pack)
    assert done.code == 2 and done.err.startswith(
        "error: node 1 (The middle), input 'value': found 1000, expected 0 to 100"
    )


def test_a_node_that_fails_is_code_1_and_named(call, write, pack):
    done = call("run", write("Fail", value=7), "--nodes", pack)
    assert done.code == 1 and "error: node 1 (The middle): ValueError: cannot do 7" in done.err
    assert "The middle: failed" in done.err and "Traceback" not in done.err


@pytest.mark.parametrize("folder", ["file", "file/out", "/proc/nope"])
def test_an_output_folder_that_cannot_be_written_is_code_2_before_anything_runs(call, tmp_path, folder):
    (tmp_path / "file").write_text("")
    done = call("run", *APPLE, "--output-dir", folder)
    assert done.code == 2 and "error: nothing can be written to" in done.err and "done" not in done.err


def test_a_workflow_that_saves_nothing_needs_no_output_folder(call, write, pack, tmp_path):
    assert call("run", write(), "--nodes", pack, "--output-dir", "/proc/nope").code == 0
    assert call("run", write(), "--nodes", pack).code == 0 and not (tmp_path / "output").exists()


def test_a_change_of_an_input_that_there_is_not_is_code_2(call, write, pack):
    done = call("run", write(), "--nodes", pack, "--set", "1.valeu=3")
    assert done.code == 2 and "no such input" in done.err and "did you mean 'value'" in done.err


def test_all_wrong_changes_are_told_at_once(call, write, pack):
    done = call("run", write(), "--nodes", pack, "--set", "nobody.value=1", "--set", "1value", "--set", "x=1")
    assert done.code == 2 and done.err.count("error: ") == 3


def test_wrong_changes_do_not_hide_wrong_values(call, write, pack):
    done = call("run", write(), "--nodes", pack, "--set", "1.value=abc", "--set", "1.on=maybe", "--set", "99.x=1")
    assert done.code == 2
    assert [part in done.err for part in ("no node is called '99'", "input 'value'", "input 'on'")] == [True] * 3


def test_a_change_of_an_input_without_a_name_is_refused(call, write, pack):
    done = call("run", write(), "--nodes", pack, "--set", "1.=3")
    assert done.code == 2 and "'1.' does not name an input" in done.err


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("1.value=7", 7),
        ("The middle.value=7", 7),
        ("Number.value=7", 7),
        ('1.value=["2", 0]', ["2", 0]),
        ("1.value=1e2", 100.0),
        ("1.value=-1", -1),
        ("1.on=false", False),
        ("1.on=null", None),
        ("1.label=7", "7"),
        ("1.label=true", "true"),
        ("1.label=a=b", "a=b"),
        ("1.label=", ""),
        ('1.label="7"', "7"),
        ('1.label={"a": 1}', '{"a": 1}'),
        ("1.label=[red] apple", "[red] apple"),
        ('1.label=["2", 1]', ["2", 1]),
        ("1.new=words", "words"),
        ("1.images.image0=2", 2),
        ("a.b.value=3", 3),
    ],
)
def test_a_change_is_json_or_text(change, value):
    nodes = {
        "1": {
            "class_type": "Number",
            "inputs": {"value": 1, "on": True, "label": "x"},
            "_meta": {"title": "The middle"},
        },
        "9": {"class_type": "Other", "inputs": {}, "_meta": {"title": "a.b"}},
    }
    new, wrong = changed(gf.Workflow.from_json(nodes), [change])
    assert wrong == []
    name = change.partition("=")[0].rpartition(".")[2]
    node = new["9"] if change.startswith("a.b") else new["1"]
    got = node.inputs["images.image0" if "images." in change else name]
    assert got == value and (list if isinstance(got, list) else type(got)) is type(value)


def test_a_file_named_like_a_shipped_workflow_comes_first(call, write, pack, tmp_path):
    write().rename(tmp_path / "text_to_image")
    assert call("run", "text_to_image", "--nodes", pack).code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_run_within_a_step_with_one_word_and_code_1(write, pack, environment, number):
    running = start(["run", write("Slow"), "--nodes", pack, "--json"], environment)
    read_until(running, '"step": 3')
    began = time.perf_counter()
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130 and err == "cancelled\n"
    assert json.loads(out.splitlines()[-1])["status"] == "cancelled"
    assert time.perf_counter() - began < 40, "the node alone would take 50 seconds"


def test_a_second_interrupt_ends_a_node_that_does_not_listen(write, pack, environment):
    running = start(["run", write("Stuck"), "--nodes", pack, "--json"], environment)
    read_until(running, '"Progress"')
    running.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130 and err == "\nstopped at once\n"


def test_when_nobody_reads_the_events_any_more_the_run_is_cancelled(write, pack, environment):
    running = start(["run", write("Slow"), "--nodes", pack, "--json"], environment)
    read_until(running, '"step": 3')
    running.stdout.close()
    assert running.wait(60) == 1 and running.stderr.read() == ""


def test_in_a_terminal_every_node_has_a_line_that_moves(write, pack, environment):
    screen = in_terminal(
        ["run", write("Slow", steps=8), "--nodes", pack], {**environment, "TERM": "xterm", "COLUMNS": "80"}
    )
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    assert "· Show" in " ".join(text.split()) and "waiting" in text
    assert re.search(r"━+╌+ [1-7]/8  \d+\.\d s", text)
    assert re.search(r"✓  The middle +1  done  \d+\.\d\d s", text) and re.search(r"done in \d+\.\d\d s  2 ran", text)
    assert screen.rstrip().endswith("\x1b[?25h")


def test_an_interrupt_in_a_terminal_leaves_a_clean_screen(write, pack, environment):
    screen = in_terminal(
        ["run", write("Slow"), "--nodes", pack], {**environment, "TERM": "xterm"}, interrupt_at="3/1000"
    )
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    assert "stopped" in text and "cancelled in" in text and "Traceback" not in text and "\x1b[?25h" in screen


def in_terminal(arguments, environment, interrupt_at=None):
    """All that the command writes to a terminal of its own; Ctrl-C is typed once a text is seen."""
    keyboard, terminal = pty.openpty()
    # The new process takes the terminal for its own by itself: between fork and exec of this one no Python is safe.
    owner = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", owner, sys.executable, "-m", "graphflow.cli", *map(str, arguments)]
    running = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True
    )
    os.close(terminal)
    seen = b""
    while True:
        ready, _, _ = select.select([keyboard], [], [], 60)
        assert ready, seen
        try:
            part = os.read(keyboard, 65536)
        except OSError:  # the other end has closed
            break
        seen += part
        if interrupt_at and interrupt_at.encode() in seen:
            os.write(keyboard, b"\x03")
            interrupt_at = None
    running.wait(60)
    os.close(keyboard)
    return seen.decode()


@pytest.mark.parametrize("wait", [0.1, 0.2, 0.3])
def test_an_interrupt_while_the_command_still_starts_is_not_lost_and_shows_no_traceback(write, pack, environment, wait):
    code = "import sys, graphflow_launcher; print(1, flush=True); sys.exit(graphflow_launcher.main())"
    arguments = ["run", str(write("Slow")), "--nodes", str(pack), "--quiet"]
    running = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    running.stdout.readline()
    time.sleep(wait)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=300)
    assert running.returncode == 130 and err == "cancelled\n"


def test_all_wrong_changes_are_reported_at_once(capsys):
    from graphflow.cli import main

    changes = ["--set", "KSampler.steps=abc", "--set", "KSampler.sampler_nme=euler"]
    assert main(["run", "text_to_image", *changes]) == 2
    shown = capsys.readouterr().err
    assert "'sampler_nme'" in shown and "found 'abc', expected a whole number" in shown
