"""Names of pictures in other folders than the input folder, as ComfyUI's editor writes them: `x.png [output]`."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import graphflow as gf

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture
def engine(tmp_path):
    settings = gf.Settings(
        output_dir=tmp_path / "output", input_dir=tmp_path / "input", temp_dir=tmp_path / "temp", models=()
    )
    for folder, colour in ((settings.input_dir, RED), (settings.output_dir, GREEN), (settings.temp_dir, BLUE)):
        (folder / "sub").mkdir(parents=True)
        for name in ("x.png", "sub/y.png"):
            Image.new("RGBA", (4, 4), (*colour, 255)).save(folder / name)
    return gf.Engine(settings=settings, cache=gf.Cache(tmp_path / "cache"))


def loading(image, kind="LoadImage", **more):
    to = "PreviewImage" if kind == "LoadImage" else "MaskPreview"
    return gf.Workflow.from_json(
        {
            "1": {"class_type": kind, "inputs": {"image": image, **more}},
            "2": {"class_type": to, "inputs": {"images" if kind == "LoadImage" else "mask": ["1", 0]}},
        }
    )


def loaded(engine, image):
    found = engine.run(loading(image), targets=["1"])["1"].outputs["IMAGE"]
    return tuple(round(255 * value) for value in found[0, 0, 0].tolist())


@pytest.mark.parametrize(
    ("name", "colour"),
    [
        ("x.png", RED),
        ("x.png [input]", RED),
        ("x.png[input]", RED),
        ("sub/y.png [input]", RED),
        ("x.png [output]", GREEN),
        ("sub/y.png [output]", GREEN),
        ("x.png [temp]", BLUE),
        ("sub/y.png  [temp]", BLUE),
    ],
)
def test_a_picture_is_read_from_the_folder_that_its_name_says(engine, name, colour):
    assert loaded(engine, name) == colour


def test_a_picture_of_another_folder_that_changes_is_read_again(engine):
    assert loaded(engine, "x.png [output]") == GREEN
    Image.new("RGB", (4, 4), BLUE).save(engine.settings.output_dir / "x.png")
    assert loaded(engine, "x.png [output]") == BLUE


def test_a_mask_is_read_from_the_folder_that_its_name_says(engine):
    workflow = loading("x.png [temp]", "LoadImageMask", channel="blue")
    assert bool(engine.run(workflow, targets=["1"])["1"].outputs["MASK"].all())


def test_a_latent_that_was_saved_is_loaded_from_the_output_folder(engine):
    tensors = {"latent_tensor": torch.ones(1, 4, 2, 2), "latent_format_version_0": torch.tensor([])}
    save_file(tensors, engine.settings.output_dir / "a.latent")
    workflow = gf.Workflow.from_json({"1": {"class_type": "LoadLatent", "inputs": {"latent": "a.latent [output]"}}})
    assert engine.run(workflow, targets=["1"])["1"].outputs["LATENT"]["samples"].shape == (1, 4, 2, 2)


@pytest.mark.parametrize(
    "name",
    [
        "../input/x.png [output]",
        "/etc/passwd [output]",
        "..\\input\\x.png [output]",
        "sub/../../input/x.png [temp]",
        " [output]",
        "[output]",
        "sub [output]",
        "nope.png [output]",
        ".graphflow/x.png [output]",
        "notes.txt [output]",
        "link.png [output]",
        "x.png [models]",
        "x.png [output] [temp]",
        "away/secret.png [output]",
    ],
)
def test_no_name_leads_out_of_its_folder_or_to_what_is_no_picture_of_it(engine, tmp_path, name):
    output = engine.settings.output_dir
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    (output / "link.png").symlink_to(tmp_path / "secret.png")
    (output / "away").symlink_to(tmp_path)
    (output / ".graphflow").mkdir()
    (output / ".graphflow" / "x.png").write_bytes((output / "x.png").read_bytes())
    (output / "notes.txt").write_text("private")
    with pytest.raises(gf.InvalidWorkflow) as error:
        engine.run(loading(name))
    assert [(problem.code, problem.input) for problem in error.value.problems] == [("not_a_choice", "image")]
    assert str(tmp_path) not in str(error.value)


def test_a_missing_picture_of_another_folder_is_told_with_that_folder(engine):
    (problem,) = engine.check(loading("nope.png [temp]")).problems
    assert problem.message == "found 'nope.png [temp]', but there is no such file in temp"


def test_the_input_folder_named_or_not_is_one_and_the_same_computation(engine):
    engine.run(loading("x.png"))
    assert engine.run(loading("x.png [input]")).timings == {}


EXAMPLE = "graphflow-example.png"


def test_a_shipped_example_is_an_image_of_the_input_folder_until_that_has_one_of_its_name(engine):
    assert engine.validate(loading(EXAMPLE)) == []
    shipped = loaded(engine, EXAMPLE)
    assert shipped == loaded(engine, f"{EXAMPLE} [input]") and shipped != RED
    Image.new("RGB", (4, 4), RED).save(engine.settings.input_dir / EXAMPLE)
    assert loaded(engine, EXAMPLE) == RED


@pytest.mark.parametrize("name", [f"{EXAMPLE} [output]", f"sub/{EXAMPLE}", f"../examples/{EXAMPLE}"])
def test_a_shipped_example_has_no_other_name(engine, name):
    assert engine.validate(loading(name)) != []
