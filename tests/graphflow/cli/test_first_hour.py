"""The command line as somebody first tries it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_help_explains_a_command_and_lists_them_all(call):
    done = call("help", "redraw")
    assert done.code == 0 and "bit by bit" in done.out
    assert "completion" in call("help").out


def test_python_dash_m_is_the_command(environment):
    done = subprocess.run([sys.executable, "-m", "graphflow", "-V"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("graphflow ")


def test_a_word_lists_the_node_types_that_have_it(call):
    done = call("nodes", "latent blend")
    assert done.code == 0 and "LatentBlend" in done.out
    assert call("nodes", "xyzzy").code == 2


def test_a_text_that_a_node_shows_is_printed(call, write, pack):
    file = Path("text.json")
    file.write_text(
        '{"1": {"class_type": "PrimitiveString", "inputs": {"value": "hello there"}},'
        ' "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}}'
    )
    assert "hello there" in call("run", file, "-q").out


def test_debug_shows_the_calls_that_led_to_a_failure(call):
    nodes = Path("nodes")
    nodes.mkdir()
    (nodes / "mine.py").write_text(
        "import graphflow as gf\n\n\n@gf.node('Fails', output=True)\ndef fails() -> gf.Ui:\n    raise "
        "ValueError('deep')\n"
    )
    Path("fails.json").write_text('{"1": {"class_type": "Fails", "inputs": {}}}')
    plain = call("run", "fails.json", "--nodes", "nodes", "-q")
    assert plain.code == 1 and "at mine.py, line 6, in fails" in plain.err and "Traceback" not in plain.err
    assert "Traceback" in call("run", "fails.json", "--nodes", "nodes", "-q", "--debug").err


def test_the_project_file_states_options_and_the_command_line_overrules_it(call):
    Path("graphflow.toml").write_text("[nodes]\njson = true\n")
    assert call("nodes", "KSampler").out.startswith("{")
    Path("graphflow.toml").write_text("[nodes]\njsn = true\n")
    done = call("nodes", "KSampler")
    assert done.code == 2 and "graphflow.toml: nodes has no option 'jsn'" in done.err and "'json'" in done.err


def test_a_table_goes_into_no_folder_that_is_not_there(call, tmp_path):
    missing = tmp_path / "nodir" / "x.csv"
    done = call("sweep", "text_to_image", "--vary", "KSampler.seed=0:2", "--csv", missing)
    assert done.code == 2 and "there is no folder" in done.err and not missing.parent.exists()


def test_a_drawing_has_the_name_of_its_workflow(call):
    assert call("graph", "text_to_image").code == 0 and Path("text_to_image.svg").is_file()


def test_shells_complete_commands_and_workflows(call):
    for shell in ("bash", "zsh", "fish"):
        text = call("completion", shell).out
        assert "redraw" in text and "text_to_image" in text and "serve" in text
