"""What a file name prefix gives: a name that a server serves, that every system holds, inside the output folder."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from graphflow_nodes.files.prefixes import LONGEST, target_of
from graphflow_server.http.paths import open_file, segments, write_file
from hypothesis import given
from hypothesis import strategies as st

import graphflow as gf
from graphflow.files.filenames import mended, why_not


def given_name(folder: Path, prefix: str) -> str:
    return target_of(folder, prefix).relative_to(folder.resolve()).as_posix()


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("a", "a"),
        ("a:b", "a_b"),
        (".hidden", "_hidden"),
        ("   ", "_"),
        ("sub /x", "sub/x"),
        ("con", "_con"),
        ("con.a", "_con.a"),
        ("sub\\x", "sub/x"),
        ('a?*<>|"', "a______"),
        ("a\nb", "a_b"),
        ("x.", "x"),
        (".git/x", "_git/x"),
        ("e\u0301", "é"),
        ("%Empty Latent.width%", "%Empty Latent.width%"),
        ("~", "~"),
        ("日本", "日本"),
        ("\ud800", "_"),
    ],
)
def test_what_no_file_name_can_hold_is_replaced(tmp_path, prefix, name):
    assert given_name(tmp_path, prefix) == name


def test_a_date_is_filled_in_by_its_pattern_and_may_name_folders(tmp_path):
    assert given_name(tmp_path, "%date:yyyy-MM-dd%/x") == time.strftime("%Y-%m-%d/x")
    assert re.fullmatch(r"\d{8}_\d{6}_x", given_name(tmp_path, "%date:yyyyMMdd_hhmmss%_x"))
    assert given_name(tmp_path, "%date:d.M.yy%") == time.strftime("{}.{}.%y").format(*time.localtime()[2:0:-1])
    assert given_name(tmp_path, "%date:yyyy/MM/dd%/x") == time.strftime("%Y/%m/%d/x")
    assert re.fullmatch(r"at \d\d_\d\d", given_name(tmp_path, "at %date:hh:mm%"))


@given(
    st.lists(
        st.sampled_from(["..", ".", "/", "\\", "a", "con", "\0", "C:", "~", " ", "%date:hh:mm%", "é", "e\u0301"])
        | st.text(max_size=4)
    ).map("".join)
)
def test_whatever_the_prefix_a_server_serves_the_file_under_the_name_that_is_told(tmp_path_factory, prefix):
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    try:
        name = f"{given_name(folder, prefix)}_00001_.png"
    except gf.GraphFlowError as error:
        assert error.problems[0].code in ("outside_folder", "name_too_long")
        return
    assert segments(name)
    write_file(folder, name, b"x", overwrite=True)
    with open_file(folder, name) as file:
        assert file.read() == b"x"


@given(st.text(max_size=60) | st.text(" ./:con\u0301e", max_size=12))
def test_a_mended_name_is_a_good_name_and_a_good_name_stays_as_it_is(name):
    assert why_not(mended(name)) is None
    if why_not(name) is None:
        assert mended(name) == name


@pytest.mark.parametrize(
    ("prefix", "code"),
    [
        ("x" * (LONGEST + 1), "name_too_long"),
        ("é" * 101, "name_too_long"),
        ("/".join("a" * 17), "name_too_long"),
        ("x" * 300 + "/a", "name_too_long"),
        ("../a", "outside_folder"),
        ("", "outside_folder"),
        ("li:nk/x", "outside_folder"),
    ],
)
def test_a_prefix_that_cannot_be_used_is_a_problem_with_its_input(tmp_path, prefix, code):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "li_nk").symlink_to("/tmp")
    with pytest.raises(gf.GraphFlowError) as error:
        target_of(tmp_path / "output", prefix)
    (problem,) = error.value.problems
    assert (problem.code, problem.input) == (code, "filename_prefix")
    assert str(tmp_path) not in str(problem) and len(str(problem)) < 300


@pytest.mark.parametrize("prefix", ["../a", "x" * 300, ""])
@pytest.mark.parametrize("kind", ["SaveImage", "SaveLatent", "SaveImageAdvanced"])
def test_a_bad_prefix_is_told_before_anything_is_computed(tmp_path, kind, prefix):
    """A picture that took minutes is not lost to the name of its file."""
    engine = gf.Engine(settings=gf.Settings(output_dir=tmp_path))
    source, name = ("EmptyLatentImage", "samples") if kind == "SaveLatent" else ("EmptyImage", "images")
    more = {"format": "png", "format.bit_depth": "8-bit", "format.input_color_space": "sRGB"} if "Adv" in kind else {}
    workflow = gf.Workflow.from_json(
        {
            "1": {"class_type": source, "inputs": {}},
            "2": {"class_type": kind, "inputs": {name: ["1", 0], "filename_prefix": prefix, **more}},
        }
    )
    (problem,) = engine.validate(workflow)
    assert (problem.code, problem.node, problem.input) == ("not_accepted", "2", "filename_prefix")


def test_the_longest_prefix_is_written(tmp_path):
    engine = gf.Engine(settings=gf.Settings(output_dir=tmp_path))
    workflow = gf.Workflow.from_json(
        {
            "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x" * LONGEST}},
        }
    )
    (path,) = engine.run(workflow).paths
    assert path.is_file()
