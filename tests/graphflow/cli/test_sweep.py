"""`graphflow sweep`: axes from the shell, what it writes, how it ends, and how it goes on after it was killed."""

import csv
import json
import signal
import subprocess
import sys

import pytest
from PIL import Image

from graphflow.cli.sweep import _span, _values

APPLE = ("sweep", "text_to_image", "--set", "EmptyLatentImage.batch_size=1", "--set", "KSampler.steps=1")


def table(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_axes_are_crossed_and_the_grid_the_table_and_the_page_are_written(call, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red apple\n\na green apple, on a table\n")
    done = call(
        *APPLE,
        "--vary",
        "@prompts.txt:6.text",
        "--vary",
        "KSampler.cfg=3,5",
        "--vary",
        "KSampler.seed=0:2",
        "--grid",
        "out/grid.png",
        "--csv",
        "out/table.csv",
        "--html",
        "out/page.html",
        "--cell",
        "64",
    )
    assert done.code == 0
    rows = table("out/table.csv")
    assert [(row["text"], row["cfg"], row["seed"]) for row in rows[:3]] == [
        ("a red apple", "3", "0"),
        ("a red apple", "3", "1"),
        ("a red apple", "5", "0"),
    ]
    assert len(rows) == len(done.out.splitlines()) == 8
    assert (tmp_path / "out/grid.png").is_file() and (tmp_path / "out/page.html").is_file()
    assert "8/8 done" in done.err and "8 of 8 variants" in done.err


def test_zipped_inputs_move_together_and_prompts_come_from_a_template(call, tmp_path):
    (tmp_path / "input" / "wildcards").mkdir(parents=True)
    (tmp_path / "input" / "wildcards" / "place.txt").write_text("wood\nsnow\n")
    done = call(
        *APPLE,
        "--zip",
        "KSampler.seed=0:2",
        "KSampler.cfg=3,5",
        "--prompts",
        "6.text=a {red|green} cup in __place__",
        "--csv",
        "table.csv",
        "--quiet",
    )
    assert (done.code, done.err) == (0, "")
    rows = table("table.csv")
    assert {(row["seed"], row["cfg"]) for row in rows} == {("0", "3"), ("1", "5")} and len(rows) == 8
    assert rows[0]["text"] == "a red cup in wood"


def test_failed_variants_are_told_with_their_values_and_the_others_are_there(call):
    done = call(*APPLE, "--vary", "KSampler.cfg=3,-1", "--csv", "table.csv")
    assert done.code == 1 and len(done.out.splitlines()) == 1
    assert "variant 1 (cfg=-1)" in done.err and "expected 0.0 to 100.0" in done.err
    assert [row["error"] == "" for row in table("table.csv")] == [True, False]


def test_a_dry_run_says_what_would_be_computed(call, tmp_path):
    done = call(*APPLE, "--vary", "KSampler.seed=0:4", "--dry-run")
    assert done.code == 0 and done.out == (
        "4 variants, 0 of them cannot run; 16 nodes to compute, 28 if each ran by itself\n"
    )
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing varies"),
        (["--vary", "KSampler.seed"], "has no '='"),
        (["--vary", "KSampler.sede=1"], "did you mean 'seed'"),
        (["--vary", "Sampler.seed=1"], "did you mean 'KSampler'"),
        (["--vary", "@nothing.txt:6.text"], "cannot read nothing.txt"),
        (["--vary", "@nothing.txt"], "does not name an input"),
        (["--vary", "KSampler.seed=[1,2"], "not a JSON list"),
        (["--vary", "KSampler.seed=0:4:0"], "no end"),
        (["--vary", "KSampler.seed=4:0"], "no values"),
        (["--zip", "KSampler.seed=0:2", "KSampler.cfg=1,2,3"], "as many values"),
        (["--prompts", "6.text=a {red"], "never closed"),
        (["--vary", "KSampler.seed=0:2", "--rows", "KSampler.cfg"], "does not vary"),
    ],
)
def test_a_wrong_call_is_told_and_nothing_runs(call, tmp_path, arguments, said):
    done = call(*APPLE, *arguments)
    assert done.code == 2 and said in done.err
    assert not (tmp_path / "output").exists()


def test_values_are_read_as_people_write_them():
    assert list(_values("3,5.5,x,true", is_text=False)) == [3, 5.5, "x", True]
    assert list(_values('["a, b", "c"]', is_text=True)) == ["a, b", "c"]
    assert list(_values("1,2", is_text=True)) == ["1", "2"]
    assert list(_values("0:4", is_text=False)) == [0, 1, 2, 3]
    assert list(_values("16:9", is_text=True)) == ["16:9"]
    assert _span("0", "1", "0.25") == [0.0, 0.25, 0.5, 0.75]
    assert _span("3", "0", "-1") == [3, 2, 1]
    assert _span("0", "0.3", "0.1") == [0.0, 0.1, 0.2]


def test_a_sweep_that_was_killed_goes_on_where_it_was(environment, tmp_path, call):
    """kill -9 in the middle; the same command then computes only what was not done, and writes no picture twice."""
    arguments = [*APPLE, "--set", "KSampler.steps=3", "--vary", "KSampler.seed=0:40"]
    running = subprocess.Popen(
        [sys.executable, "-m", "graphflow.cli", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    seen = 0
    for line in running.stderr:
        seen += " done: " in line
        if seen == 10:
            running.send_signal(signal.SIGKILL)
            break
    running.wait(60)
    running.stderr.close()
    done = call(*arguments, "--csv", "table.csv")
    assert done.code == 0
    summary = done.err.splitlines()[-1]
    ran = int(summary.partition("(")[2].split()[0])
    assert ran <= 3 * 32 + 4, summary
    assert "40 of 40 variants" in summary
    pictures = [row["images"] for row in table("table.csv")]
    assert len(set(pictures)) == 40


def test_ctrl_c_writes_the_table_of_what_is_done_and_the_next_call_goes_on(environment, tmp_path, call):
    arguments = [*APPLE, "--set", "KSampler.steps=3", "--vary", "KSampler.seed=0:200", "--csv", "table.csv"]
    running = subprocess.Popen(
        [sys.executable, "-m", "graphflow.cli", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    for line in running.stderr:
        if " done: " in line:
            running.send_signal(signal.SIGINT)
            break
    rest = running.stderr.read()
    assert running.wait(60) == 130 and "goes on from there" in rest
    assert 1 <= len(table("table.csv")) < 200
    assert json.dumps(table("table.csv")[0]).count(".png") == 1


def test_a_pattern_takes_the_files_of_a_choice(call, tmp_path):
    (tmp_path / "input").mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "blue"), ("c.jpg", "green")):
        Image.new("RGB", (64, 64), colour).save(tmp_path / "input" / name)
    nodes = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    (tmp_path / "copy.json").write_text(json.dumps(nodes))
    done = call("sweep", "copy.json", "--vary", "LoadImage.image=*.png", "--csv", "table.csv")
    assert done.code == 0 and [row["image"] for row in table("table.csv")] == ["a.png", "b.png"]
    none = call("sweep", "copy.json", "--vary", "LoadImage.image=*.webp")
    assert none.code != 0 and "none of the 3 choices of LoadImage.image matches '*.webp'" in none.err
