"""What `graphflow` says to a call that is right, and to one that is wrong; the exit codes 0, 1 and 2."""

import json
import re
import subprocess
import sys

import pytest

import graphflow as gf


def test_help_lists_every_command(call):
    with pytest.raises(SystemExit) as end:
        call("--help")
    assert end.value.code == 0


def test_no_command_at_all_shows_the_help_and_is_wrong(call):
    done = call()
    assert done.code == 2 and "run a workflow" in done.out


def test_the_version_is_that_of_the_package(capsys, call):
    with pytest.raises(SystemExit) as end:
        call("--version")
    assert end.value.code == 0 and capsys.readouterr().out == "graphflow 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "error: there is no command 'rnu'\n    did you mean 'run'?\n"),
        (["run"], "error: the following arguments are required: file\n    see graphflow run --help\n"),
        (
            ["run", "text_to_image", "--outptu-dir", "x"],
            "error: run does not know '--outptu-dir'\n    did you mean '--output-dir' or '--input-dir'?\n",
        ),
        (["cache", "stat"], "error: argument what: invalid choice: 'stat'"),
        (["run", "text_to_image", "--cache-size", "much"], "'much' is not a size; write 500MB or 20GB"),
        (["nodes", "KSamplr"], "error: there is no node type 'KSamplr'\n    did you mean 'KSampler'"),
        (["graph", "text_to_image", "-o", "a.gif"], "error: a.gif is neither .svg nor .png nor .mmd"),
        (["run", "nope.json"], "error: there is no file 'nope.json', and no workflow of this name ships\n    known: "),
        (["run", "text_to_image", "--nodes", "nowhere"], "error: there is no folder 'nowhere'\n"),
        (["run", "text_to_image", "--models", "nowhere"], "error: there is no folder 'nowhere'\n"),
    ],
)
def test_a_wrong_call_is_code_2_and_told_with_a_hint(call, arguments, said):
    done = call(*arguments)
    assert done.code == 2 and said in done.err and "Traceback" not in done.err and done.out == ""


def test_a_command_starts_without_loading_the_model_libraries():
    code = (
        "import sys; from graphflow.cli import main; main(['nodes']); "
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_the_list_of_commands_is_shown_without_loading_the_server_or_its_client():
    code = (
        "import sys; from graphflow.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('graphflow_server.queue', 'aiohttp', 'sqlite3') if name in sys.modules], "
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n" and "does not load" not in done.stdout
    assert "    trace  " in done.stdout and "    worker  " in done.stdout, "commands that lie inside packages, too"


def test_whoever_reads_the_output_may_go_away_early():
    command = [sys.executable, "-m", "graphflow.cli", "nodes", "--json"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running.stdout.close()
    assert running.stderr.read() == "" and running.wait(60) == 1


def test_the_node_list_has_a_line_for_each_node(call):
    lines = call("nodes").out.splitlines()
    assert any(line.startswith("  KSampler ") for line in lines)
    assert "sampling" in lines and lines[-1].endswith("graphflow nodes NAME shows one")


def test_a_node_page_shows_types_ranges_defaults_and_help(call):
    page = call("nodes", "KSampler").out
    for row in (
        "model +MODEL +required",
        "seed +INT +0 +0 to 18446744073709551615",
        "cfg +FLOAT +8.0 +0.0 to 100.0",
        'sampler_name +COMBO +"euler" +euler, euler_cfg_pp, euler_ancestral',
        "0  LATENT +LATENT",
    ):
        assert re.search(f"^  {row}", page, re.MULTILINE), row
    assert "Denoise a latent" in page


def test_a_node_of_a_folder_is_shown_as_json(call, pack):
    found = json.loads(call("nodes", "Number", "--nodes", pack, "--json").out)
    assert found["inputs"]["value"] == {
        "type": "INT",
        "required": False,
        "default": 1,
        "min": 0,
        "max": 100,
        "step": None,
    }
    assert found["outputs"] == [{"name": "INT", "type": "INT"}] and found["help"] == "A number."


def test_all_nodes_are_printed_as_one_json_object(call):
    found = json.loads(call("nodes", "--json").out)
    assert found["SaveImage"]["output_node"] is True and "KSampler" in found


def test_a_workflow_is_drawn_as_svg_and_as_mermaid(call, tmp_path):
    assert call("graph", "text_to_image", "-o", "a.svg").out == "a.svg\n"
    assert call("graph", "text_to_image", "-o", "a.mmd").code == 0
    svg = (tmp_path / "a.svg").read_text()
    assert svg.startswith("<svg") and ">CONDITIONING</text>" in svg
    assert (tmp_path / "a.mmd").read_text().startswith("flowchart LR\n")


def test_a_picture_that_cannot_be_written_is_code_1(call):
    done = call("graph", "text_to_image", "-o", "no/such/folder/a.svg")
    assert done.code == 1 and "cannot write no/such/folder/a.svg: No such file or directory" in done.err


def test_doctor_says_what_was_found(call, tmp_path):
    (tmp_path / "models" / "vae").mkdir(parents=True)
    (tmp_path / "models" / "vae" / "my_vae.safetensors").write_bytes(b"")
    done = call("doctor")
    assert done.code == 0
    for word in ("python", "torch", "device", "node pack", "graphflow-tiny", "vae: 1 file", "my_vae.safetensors"):
        assert word in done.out


def test_doctor_names_a_pack_that_does_not_load(call, tmp_path):
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "broken.py").write_text("import no_such_library\n")
    done = call("doctor", "--nodes", "packs")
    assert (
        done.code == 1 and "broken.py did not load: ModuleNotFoundError: No module named 'no_such_library'" in done.err
    )


def test_a_pack_that_does_not_load_leaves_the_rest_working(call, tmp_path, pack, write):
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "broken.py").write_text("1 / 0\n")
    done = call("run", write(), "--nodes", "packs", "--nodes", pack, "--quiet")
    assert (
        done.code == 0
        and "warning: " in done.err
        and "broken.py did not load: ZeroDivisionError: division by zero" in done.err
    )


def test_validate_says_every_problem_and_is_code_2(call, write, pack):
    done = call("validate", write(value=1000, label=[], on="x"), "--nodes", pack)
    assert done.code == 2 and done.err.count("error: node 1 (The middle), input ") == 3 and done.out == ""


def test_a_malformed_node_does_not_hide_what_is_wrong_with_the_others(call, tmp_path, pack):
    nodes = {
        "1": {"class_type": "Number", "inputs": [3, None], "_meta": True},
        "2": {"class_type": "Show", "inputs": {"value": ["1", 0]}},
        "3": {"class_type": "Number", "inputs": {"value": 1000}},
    }
    (tmp_path / "wrong.json").write_text(json.dumps(nodes))
    for command in ("validate", "run"):
        done = call(command, "wrong.json", "--nodes", pack)
        assert done.code == 2 and done.err == (
            "error: node 1: its inputs is [3, null], expected an object of inputs\n"
            'error: node 1: its _meta is true, expected an object, as {"title": ...}\n'
            "error: node 3 (Number), input 'value': found 1000, expected 0 to 100\n"
        )
    with pytest.raises(gf.InvalidWorkflow) as error:
        gf.Engine(gf.Registry.installed([pack])).load("wrong.json")
    assert [problem.node for problem in error.value.problems] == ["1", "1", "3"]


def test_validate_of_a_good_workflow_is_code_0(call, write, pack):
    done = call("validate", write(), "--nodes", pack)
    assert (done.code, done.err) == (0, "") and done.out.endswith("workflow.json: 2 nodes, no problems\n")


def test_validate_warns_of_inputs_that_nothing_uses(call, write, pack):
    done = call("validate", write(upload="image"), "--nodes", pack)
    assert done.code == 0 and "warning: node 1 (The middle), input 'upload': Number has no such input" in done.err


def test_validate_as_json_holds_problems_and_warnings(call, write, pack):
    done = call("validate", write(value=1000, upload=1), "--nodes", pack, "--json")
    found = json.loads(done.out)
    assert done.code == 2 and found["valid"] is False
    assert [p["code"] for p in found["problems"]] == ["out_of_range"]
    assert [p["code"] for p in found["warnings"]] == ["unused_input"]


def test_validate_reads_standard_input(write, pack):
    command = [sys.executable, "-m", "graphflow.cli", "validate", "-", "--nodes", str(pack)]
    done = subprocess.run(command, input=write().read_text(), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "-: 2 nodes, no problems\n")
    done = subprocess.run(command, input="{", capture_output=True, text=True)
    assert done.returncode == 2 and "at line 1, column 2" in done.stderr


def test_standard_input_that_is_no_text_is_a_problem(pack):
    command = [sys.executable, "-m", "graphflow.cli", "validate", "-", "--nodes", str(pack)]
    done = subprocess.run(command, input=b"\xff\xfe\x00", capture_output=True)
    assert done.returncode == 2 and b"standard input is neither UTF-8 text nor an image" in done.stderr


def test_model_folders_are_an_option_the_environment_and_the_folder_called_models(call, tmp_path, monkeypatch):
    for number, folder in enumerate(("given", "named", "also", "models")):
        (tmp_path / folder / "vae").mkdir(parents=True)
        (tmp_path / folder / "vae" / f"{number}_{folder}.safetensors").write_bytes(b"")
    monkeypatch.setenv("GRAPHFLOW_MODELS", f"{tmp_path / 'named'}:{tmp_path / 'also'}")
    found = json.loads(call("nodes", "VAELoader", "--models", "given", "--json").out)
    assert found["inputs"]["vae_name"]["choices"] == [
        "0_given.safetensors",
        "1_named.safetensors",
        "2_also.safetensors",
        "3_models.safetensors",
    ]


@pytest.mark.parametrize("arguments", [["nodes"], ["run", "workflow.json", "--nodes", "PACK", "--json"]])
def test_output_that_cannot_be_written_is_code_1_without_a_traceback(write, pack, arguments):
    write()
    command = [sys.executable, "-m", "graphflow.cli", *(str(pack) if part == "PACK" else part for part in arguments)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "No space left on device" in done.stderr and "Traceback" not in done.stderr


def test_closed_output_is_no_output():
    command = f"{sys.executable} -m graphflow.cli nodes >&-"
    done = subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_the_encoding_of_the_terminal_lacks_is_written_as_an_escape(write, pack, environment):
    path = write().rename("\u00fcn\u00ef.json")
    command = [sys.executable, "-m", "graphflow.cli", "validate", str(path), "--nodes", str(pack)]
    done = subprocess.run(command, capture_output=True, text=True, env={**environment, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and "\\xfcn\\xef.json: 2 nodes" in done.stdout, done.stderr


def test_a_workflow_is_read_from_a_pipe(write, pack):
    command = f"{sys.executable} -m graphflow.cli validate <(cat {write()}) --nodes {pack}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("2 nodes, no problems\n"), done.stderr


def test_the_page_of_the_sampler_says_what_its_inputs_are_for(call):
    done = call("nodes", "KSampler")
    assert "the same seed, the same image" in " ".join(done.out.split())


def test_the_ending_of_a_drawing_may_be_in_capitals(call, tmp_path):
    assert call("graph", "text_to_image", "-o", "G.SVG").code == 0 and (tmp_path / "G.SVG").exists()
