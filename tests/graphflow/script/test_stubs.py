"""What an editor and a type checker are told about the node types."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import graphflow_nodes.library
import pytest

import graphflow as gf
from graphflow import Choice, Wire
from graphflow.cli import main
from graphflow.script.stubs import stub

ROOT = Path(__file__).parents[3]
COMMITTED = ROOT / "nodes" / "api.pyi"

SCRIPT = """\
import graphflow as gf
from graphflow_nodes import api as n

def encode(clip: n.Clip, text: str) -> n.Conditioning:
    return n.CLIPTextEncode(clip=clip, text=text)

with gf.Graph() as g:
    model, clip, vae = n.CheckpointLoaderSimple(ckpt_name="graphflow-tiny")
    empty = n.EmptyLatentImage(width=64, height=n.PrimitiveInt(value=64))
    latent = n.KSampler(model=model, positive=encode(clip, "a"), negative=encode(clip, ""), latent_image=empty.LATENT,
                        seed=1, cfg=n.PrimitiveInt(value=3), sampler_name="euler")
    out = n.SaveImage(images=n.VAEDecode(samples=latent, vae=vae), title="Out")
image, mask = n.LoadImage(image="a.png")
n.ResizeImageMaskNode(input=n.BatchImagesNode(images=[image, image]), resize_type="scale width", resize_type__width=8)
places: list[gf.Place] = [latent.seed, model.ckpt_name, out.filename_prefix, empty.width]
"""

MISTAKES = {
    "a CLIP where a MODEL belongs": "n.CLIPSetLastLayer(clip=model)",
    "a number where a latent belongs": "n.VAEDecode(samples=3, vae=vae)",
    "an input that does not exist": "n.EmptyLatentImage(widht=64)",
    "a missing input": "n.VAEDecode(samples=empty)",
    "a text where a number belongs": 'n.EmptyLatentImage(width="64")',
    "a number with a fraction where a whole one belongs": "n.EmptyLatentImage(width=n.PrimitiveFloat(value=1.0))",
    "a choice that there is not": 'n.LatentUpscaleBy(samples=empty, upscale_method="nearist")',
    "a node type that does not exist": "n.KSamplr(model=model)",
    "an attribute that the node does not have": "latent.sead",
    "a text where a picture belongs, in a list": 'n.BatchImagesNode(images=["a", "b"])',
    "an input that no choice brings along": (
        'n.ResizeImageMaskNode(input=image, resize_type="scale width", resize_type__w=3)'
    ),
    "a node with three outputs as one": 'n.CLIPTextEncode(clip=n.CheckpointLoaderSimple(ckpt_name="x"), text="")',
    "an output that does not exist": 'n.CheckpointLoaderSimple(ckpt_name="x").CLIPS',
    "one more output than there is": 'a, b, c, d = n.CheckpointLoaderSimple(ckpt_name="x")',
}

# Python says the one itself, and a text that reads as a number is one, as in files of ComfyUI.
CHECKER_ONLY = {"one more output than there is", "a text where a number belongs"}


CHECKER = """
[mypy]
strict = true
follow_imports = silent
[mypy-torch.*]
follow_imports = skip
[mypy-torch,torch._tensor,torch._C,torch.types]
follow_imports = silent
"""
"""Of torch, the modules in which a tensor is declared: to read all of it takes half a minute."""


def checked(folder, package, lines):
    """The numbers of the lines in which mypy finds an error, and its output."""
    folder.joinpath("script.py").write_text("\n".join(lines))
    environment = {**os.environ, "MYPYPATH": str(package)}
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--cache-dir",
        str(package / "cache"),
        "--config-file",
        str(package / "mypy.ini"),
        "script.py",
    ]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert not re.search(r"^(?!script\.py).*: error", done.stdout, re.M), f"the stub itself is wrong: {done.stdout}"
    return {int(number) for number in re.findall(r"^script\.py:(\d+): error", done.stdout, re.M)}, done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The packages under their installed names, for a checker that does not follow an editable install."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "mypy.ini").write_text(CHECKER)
    for name, source in (("graphflow", "graphflow"), ("graphflow_nodes", "nodes")):
        (folder / name).symlink_to(ROOT / source)
    return folder


def test_a_type_checker_accepts_a_right_script_and_finds_every_wrong_line(tmp_path, package):
    right = SCRIPT.splitlines()
    wrong = checked(tmp_path, package, [*right, *MISTAKES.values()])
    expected = {len(right) + number: name for number, name in enumerate(MISTAKES, 1)}
    assert wrong[0] == set(expected), [expected.get(line, line) for line in wrong[0] ^ set(expected)] + [wrong[1]]


def test_what_the_checker_accepts_also_builds():
    space: dict[str, Any] = {}
    exec(SCRIPT, space)
    assert space["g"].workflow["KSampler"].inputs["seed"] == 1


@pytest.mark.parametrize("name", [name for name in MISTAKES if name not in CHECKER_ONLY])
def test_a_wrong_line_is_also_refused_when_it_runs(name):
    space: dict[str, Any] = {}
    exec(SCRIPT, space)
    with pytest.raises((gf.InvalidWorkflow, AttributeError)):
        exec(MISTAKES[name], space)


def test_the_stub_of_the_built_in_nodes_is_up_to_date():
    registry = gf.Registry()
    registry.add_module(graphflow_nodes.library, "graphflow")
    assert COMMITTED.read_text(encoding="utf-8") == stub(registry), (
        "nodes/api.pyi is older than the nodes: run `graphflow stubs` and commit it"
    )


class Both(NamedTuple):
    index: Annotated[Any, Wire("MY_TYPE")]
    Any: Annotated[Any, Wire("*")]


@gf.node("2 Odd-Names")
def odd(
    id: Annotated[Any, Wire("MY_TYPE")],
    index: int = 0,
    *,
    count: Annotated[Any, Wire("INT,MASK")],
    mode: Annotated[str, Choice(("a", "b c"))] = "a",
    note: str = 'says """\\n',
    whatever: Annotated[Any, Wire("*")] = None,
) -> Both:
    r'''Help with \ and """ in it.'''
    return Both(id, id)


@gf.node("Growing")
def growing(inputs: Annotated[dict[str, Any], gf.Grow(Annotated[Any, Wire("*")], prefix="input")]) -> str:
    """Its input has the name that stubs give to all others."""
    return str(inputs)


def test_inputs_that_are_called_inputs_give_a_stub_that_is_python():
    text = stub(gf.Registry([growing]))
    compile(text, "api.pyi", "exec")
    assert "    inputs: Sequence[Any]" in text


def test_odd_names_and_types_give_a_stub_that_is_python(tmp_path, package):
    text = stub(gf.Registry([odd]))
    compile(text, "api.pyi", "exec")
    assert "def _2_Odd_Names(" in text and "id_: str | None = None" in text
    assert "mode: Literal['a', 'b c'] | Combo" in text
    assert "count: int | Int | Mask" in text and "whatever: Any = None" in text
    (tmp_path / "own.pyi").write_text(text)
    lines = [
        "import own",
        "def f(x: own.MyType) -> own.MyType:",
        "    a, b = own._2_Odd_Names(id=x, count=3, whatever=x)",
        "    return a",
        'own._2_Odd_Names(id=3, count="x")',
    ]
    wrong, output = checked(tmp_path, package, lines)
    assert wrong == {5}, output


def test_a_module_is_written_for_a_folder_of_nodes(tmp_path, capsys, monkeypatch):
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "mine.py").write_text(
        "from graphflow import node\n@node('Mine')\ndef mine(x: int = 3) -> int:\n    '''My own.'''\n    return x\n"
    )
    assert main(["stubs", "--nodes", str(pack), "-o", str(tmp_path / "own")]) == 0
    assert 'My own."""' in (tmp_path / "own" / "api.pyi").read_text()
    space: dict[str, Any] = {}
    exec((tmp_path / "own" / "api.py").read_text(), space)
    with gf.Graph() as g:
        space["__getattr__"]("Mine")(x=space["__getattr__"]("PrimitiveInt")(value=1))
    assert g.workflow["Mine"].inputs["x"] == ["PrimitiveInt", 0]
    assert main(["stubs", "--nodes", str(pack)]) == 2


def test_foreign_packs_have_stubs_as_well(tmp_path, package):
    packs = ROOT / "tests" / "graphflow" / "foreign" / "packs"
    command = [sys.executable, "-m", "graphflow.cli", "stubs", "--nodes", packs, "-o", tmp_path / "own"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (tmp_path / "own" / "__init__.py").touch()
    lines = [
        "from own import api as n",
        "image, mask = n.LoadImage(image='a.png')",
        "brighter, width = n.Old_Brighten(image=image, factor=n.PrimitiveInt(value=2))",
        "n.PreviewImage(images=brighter)",
        "n.Old_Brighten(image=width)",
        "n.PreviewImage(images=width)",
    ]
    wrong, output = checked(tmp_path, package, lines)
    assert wrong == {5, 6}, output


def test_functions_show_their_help_and_inputs_in_a_notebook():
    import inspect

    from graphflow_nodes import api as n

    assert "Denoise a latent" in (n.KSampler.__doc__ or "") and n.KSampler.__name__ == "KSampler"
    signature = inspect.signature(n.KSampler)
    assert signature.parameters["steps"].default == 20 and "title" in signature.parameters
    assert n.Model is gf.Value
