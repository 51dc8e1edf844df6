"""Every workflow that ships in the package runs."""

import io
import json
import re
from importlib.util import find_spec
from pathlib import Path

import av
import pytest
import torch
from graphflow_nodes.devices import upscale
from graphflow_nodes.library import upscaling
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file

import graphflow as gf
from graphflow.cli import main
from graphflow.spi import shipped_groups, shipped_names, shipped_thumbnail
from tests.nodes.families import (
    controls,
    denoisers,
    tiny,
    tiny_flow,
    tiny_flux2,
    tiny_flux3,
    tiny_hidream,
    tiny_ideogram4,
    tiny_kandinsky5,
    tiny_ltx,
    tiny_ltx2,
    tiny_modern,
    tiny_qwen,
    tiny_svd,
    tiny_transformers,
    tiny_vision,
    tiny_wan,
)
from tests.nodes.families.test_modern_runs import unscaled
from training.train_upscaler import FACTOR, Compact

FOLDER = Path(__file__).parents[2] / "workflows"
CHECKPOINTS = {"sd_xl_base_1.0.safetensors": "sdxl", "sd_xl_refiner_1.0.safetensors": "sdxl_refiner"}
"""Checkpoints that workflows name -> their family."""
FILES = {
    **{
        name: lambda models, name=name, family=family: tiny.tiny(family).save(models / "checkpoints" / name)
        for name, family in CHECKPOINTS.items()
    },
    "v1-5-pruned-emaonly.safetensors": lambda models: tiny.tiny("sd1").save(
        models / "checkpoints" / "v1-5-pruned-emaonly.safetensors"
    ),
    "control_v11p_sd15_canny.safetensors": lambda models: controls.control("sd1").save(
        models / "controlnet" / "control_v11p_sd15_canny.safetensors"
    ),
    "sigclip_vision_patch14_384.safetensors": lambda models: tiny_vision.save(
        models / "clip_vision" / "sigclip_vision_patch14_384.safetensors", "siglip", layers=27
    ),
    "flux1-redux-dev.safetensors": lambda models: tiny_vision.redux(
        models / "style_models" / "flux1-redux-dev.safetensors"
    ),
    **{name: lambda models, name=name: tiny_flow.save(models, name) for name in tiny_flow.FILES},
    **{name: lambda models, name=name: tiny_flux2.save(models, name) for name in tiny_flux2.FILES},
    **tiny_flux3.FILES,
    **tiny_hidream.FILES,
    **tiny_ideogram4.FILES,
    **tiny_kandinsky5.FILES,
    **{name: lambda models, name=name: tiny_modern.save(models, name) for name in tiny_modern.FILES},
    **{name: lambda models, name=name: tiny_qwen.save(models, name) for name in tiny_qwen.FILES},
    **{name: lambda models, name=name: tiny_transformers.save_named(models, name) for name in tiny_transformers.FILES},
    **{name: lambda models, name=name: tiny_ltx.save(models, name) for name in tiny_ltx.FILES},
    **{name: lambda models, name=name: tiny_ltx2.save(models, name) for name in tiny_ltx2.FILES},
    tiny_svd.FILE: tiny_svd.save,
    **{name: lambda models, name=name: tiny_wan.save(models, name) for name in tiny_wan.FILES},
    "Chroma1-HD.safetensors": lambda models: denoisers.save_chroma(models, "Chroma1-HD"),
}
"""Files that workflows name and the package does not bring -> what writes a small one into a models folder."""


def named(path):
    """The files that a workflow names and the package does not bring."""
    return [name for name in FILES if name in path.read_text()]


ALONE = [path for path in sorted(FOLDER.glob("*.json")) if not named(path)]
WITH_FILES = [path for path in sorted(FOLDER.glob("*.json")) if named(path)]


@pytest.mark.parametrize("path", WITH_FILES, ids=lambda path: path.stem)
def test_a_workflow_for_a_model_of_the_user_runs_on_a_small_one_of_its_layout(path, tmp_path, monkeypatch):
    monkeypatch.setattr("graphflow_nodes.library.joyimage.SIZES", [(64, 128)])  # not of about a million pixels
    monkeypatch.setattr("graphflow_nodes.library.editing.KEPT", 128**2)
    for name in named(path):
        FILES[name](tmp_path / "models")
    workflow = gf.Workflow.load(path)
    Image.effect_noise((128, 64), 80).convert("RGB").save(tmp_path / "picture.png")
    small = {"width": 128, "height": 64, "steps": 4, "max_length": 16}
    if "edit" in path.stem:  # a reference image has a million pixels, however small the image is that is made
        small |= {"steps": 1, "resolution": 96}
    if path.stem.endswith("to_video"):
        small |= {"length": 9 if "ltx" in path.stem else 5, "video_frames": 3}
    for node in workflow.to_json():
        inputs = workflow.to_json()[node]["inputs"]
        is_sketch = inputs.get("width") == 64 and inputs.get("height") == 64
        is_schedule = workflow.to_json()[node]["class_type"].endswith("Scheduler")  # of real sizes only
        for side in small.keys() & inputs.keys() if not is_sketch and not is_schedule else ():
            if isinstance(inputs[side], list) or (side == "steps" and "start_at_step" in inputs):
                continue
            workflow = workflow.set(f"{node}.{side}", small[side])
    scaled = [key for key, node in workflow.to_json().items() if node["class_type"] == "FluxKontextImageScale"]
    for key in scaled:  # to about a million pixels: too many for a test
        workflow = workflow.set("VAEEncode.pixels", workflow.to_json()[key]["inputs"]["image"])
    workflow = unscaled(workflow)
    settings = gf.Settings(models=(tmp_path / "models",), output_dir=tmp_path, input_dir=tmp_path, temp_dir=tmp_path)
    with gf.Engine(settings=settings) as engine:
        assert engine.validate(workflow) == []
        (image,) = engine.run(workflow).images
    with first_image(image.path) as picture:
        assert picture.size == (128, 64) and len(picture.getcolors(1 << 20)) > 100


def first_image(path):
    """An image, or the first frame of a video."""
    if path.suffix != ".mp4":
        return Image.open(path)
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_image()


@pytest.fixture
def upscaler(monkeypatch):
    """The network of the package, built by the program that trained it where spandrel is not installed."""
    if find_spec("spandrel") is not None and find_spec("torchvision") is not None:
        return

    def loaded(handle):
        network = Compact()
        network.load_state_dict({name: one.float() for name, one in load_file(handle.source.path).items()})
        network.device = torch.device("cpu")
        return network, FACTOR

    monkeypatch.setattr(upscaling, "find_spec", lambda _: object())
    monkeypatch.setattr(upscale, "_load", loaded)


def shortened(path):
    """A shipped workflow with at most six steps of sampling and of training; parts of one schedule keep theirs."""
    document = json.loads(path.read_text())
    for node in document.values():
        inputs = node["inputs"]
        steps = inputs.get("steps")
        is_part = inputs.get("start_at_step", 0) > 0 or inputs.get("end_at_step", 10000) < 10000
        if isinstance(steps, int) and not is_part:
            inputs["steps"] = min(steps, 6)
    return document


@pytest.mark.usefixtures("upscaler")
@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_a_shipped_workflow_runs_in_few_steps_and_its_picture_runs_again(path, tmp_path, capsys):
    Image.effect_noise((80, 100), 80).convert("RGB").save(tmp_path / "picture.png")
    folders = ["--output-dir", str(tmp_path / "output"), "--input-dir", str(tmp_path)]
    assert main(["validate", str(path), "--input-dir", str(tmp_path)]) == 0
    short = tmp_path / f"{path.stem}.json"
    short.write_text(json.dumps(shortened(path)))
    assert main(["run", str(short), *folders, "--quiet"]) == 0
    pictures = sorted((tmp_path / "output").glob("*.png"))
    assert pictures
    with Image.open(pictures[0]) as picture:
        assert json.loads(picture.text["prompt"]) == shortened(path)
    assert main(["validate", str(pictures[0]), "--input-dir", str(tmp_path)]) == 0


def test_a_picture_with_the_text_of_another_program_is_read_as_the_workflow_that_made_it(tmp_path):
    shipped = gf.Workflow.load(FOLDER / "from_a1111_picture.json")
    with gf.Engine(settings=gf.Settings(output_dir=tmp_path, temp_dir=tmp_path)) as engine:
        (saved,) = engine.run(shipped).images
    text = Image.open(saved.path).text["parameters"]
    foreign, info = tmp_path / "foreign.png", PngInfo()
    info.add_text("parameters", text)
    Image.open(saved.path).save(foreign, pnginfo=info)
    read = gf.Workflow.load(foreign).to_json()
    wanted = shipped.to_json()
    assert [node["class_type"] for node in read.values()][:6] == [node["class_type"] for node in wanted.values()][:6]
    assert read["5"]["inputs"] == wanted["5"]["inputs"] and read["2"]["inputs"] == wanted["2"]["inputs"]


def test_an_unchanged_run_is_cached_and_a_new_seed_is_not(tmp_path):
    engine = gf.Engine(settings=gf.Settings(output_dir=tmp_path))
    workflow = gf.Workflow.load(FOLDER / "text_to_image.json").set("KSampler.steps", 2)
    first = engine.run(workflow)
    again = engine.run(workflow)
    assert len(first.timings) == 7 and not again.timings
    assert [image.path for image in again["SaveImage"].images] == [image.path for image in first["SaveImage"].images]
    assert set(engine.run(workflow.set("KSampler.seed", 2)).timings) == {"3", "8", "9"}


def test_a_workflow_of_the_built_in_model_has_a_small_thumbnail_and_no_other_has_one():
    for path in FOLDER.glob("*.json"):
        thumbnail = shipped_thumbnail(path.stem)
        assert (thumbnail is not None) == (path in ALONE), path
        if thumbnail is not None:
            assert len(thumbnail) <= 8 << 10
            with Image.open(io.BytesIO(thumbnail)) as image:
                assert image.format == "WEBP" and len(image.getcolors(1 << 20)) > 100


def test_each_shipped_workflow_is_listed_once_with_a_title_and_a_sentence():
    listed = [item for group in shipped_groups() for item in group.workflows]
    assert sorted(item.name for item in listed) == shipped_names()
    assert listed[0].name == "text_to_image" and len({item.title for item in listed}) == len(listed)
    for item in listed:
        assert item.title and item.description.endswith("."), item


def test_the_list_of_workflows_names_each_of_them():
    listed = re.findall(r"^\| `(\w+)`", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", WITH_FILES, ids=lambda path: path.stem)
def test_the_list_names_each_model_file_that_a_workflow_needs(path):
    """In its own row, or in that of the workflow to which the row refers (`as flux_dev`)."""
    rows = {row[1]: row[0] for row in re.finditer(r"^\| `(\w+)` .*$", (FOLDER / "README.md").read_text(), re.MULTILINE)}
    row = rows[path.stem]
    others = [rows[name] for name in re.findall(r"as `(\w+)`", row)]
    base = rows["sdxl"] if "the base" in row else ""
    assert [name for name in named(path) if name not in "".join([row, *others, base])] == []
