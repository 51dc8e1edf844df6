"""What would fill the memory is refused at the node that would allocate it, in plain words with advice."""

import pytest
from graphflow_nodes import limits
from graphflow_nodes.library.conditioning import conditioning_combine
from graphflow_nodes.limits import Limits, check_items, check_latent, check_pixels, check_text

import graphflow as gf

from ..graphs import graph

SIDE = {"expression": "a * 16", "values.a": "@million"}
MILLION = ("PrimitiveInt", {"value": 1_000_000})
WIDE = ("ComfyMathExpression", SIDE)
SMALL = ("EmptyImage", {"width": 64, "height": 64})
LATENT = ("EmptyLatentImage", {"width": 512, "height": 512})
MASK = ("SolidMask", {"width": 64, "height": 64})
SHOW = ("PreviewAny", {"source": "@big"})


def doubled(kind, first, *names, times=40):
    """A value that is joined with itself again and again."""
    nodes = {"n0": first}
    for index in range(times):
        nodes[f"n{index + 1}"] = (kind, {name: f"@n{index}" for name in names})
    return {**nodes, "show": ("PreviewAny", {"source": f"@n{times}"})}


COMPUTED = {
    "an image": {"big": ("EmptyImage", {"width": "@wide:1", "height": "@wide:1"})},
    "images": {"big": ("EmptyImage", {"width": 512, "height": 512, "batch_size": "@million"})},
    "a latent": {"big": ("EmptyLatentImage", {"width": "@wide:1", "height": "@wide:1"})},
    "latents": {"big": ("EmptySD3LatentImage", {"width": 512, "height": 512, "batch_size": "@million"})},
    "a mask": {"big": ("SolidMask", {"width": "@wide:1", "height": "@wide:1"})},
    "a scaled image": {
        "i": SMALL,
        "big": (
            "ImageScale",
            {"image": "@i", "upscale_method": "bilinear", "width": "@wide:1", "height": "@wide:1", "crop": "disabled"},
        ),
    },
    "a factor": {"i": SMALL, "big": ("ImageScaleBy", {"image": "@i", "upscale_method": "area", "scale_by": "@wide:0"})},
    "a scaled latent": {
        "l": LATENT,
        "big": (
            "LatentUpscale",
            {"samples": "@l", "upscale_method": "bislerp", "width": "@wide:1", "height": "@wide:1", "crop": "disabled"},
        ),
    },
    "a repeated batch": {"i": SMALL, "big": ("RepeatImageBatch", {"image": "@i", "amount": "@wide:1"})},
    "a repeated latent": {"l": LATENT, "big": ("RepeatLatentBatch", {"samples": "@l", "amount": "@wide:1"})},
    "margins": {
        "i": SMALL,
        "big": (
            "ImagePadForOutpaint",
            {"image": "@i", "left": "@wide:1", "top": "@wide:1", "right": 0, "bottom": 0, "feathering": 40},
        ),
    },
    "a frame": {
        "i": SMALL,
        "big": (
            "ResizeAndPadImage",
            {
                "image": "@i",
                "target_width": "@wide:1",
                "target_height": "@wide:1",
                "padding_color": "white",
                "interpolation": "area",
            },
        ),
    },
    "a crop that is made whole": {
        "m": MASK,
        "big": (
            "ResizeImageMaskNode",
            {
                "input": "@m",
                "resize_type": "scale by multiplier",
                "resize_type.multiplier": 100000.0,
                "scale_method": "area",
            },
        ),
    },
}
DOUBLED = {
    "texts": doubled("StringConcatenate", ("PrimitiveString", {"value": "red "}), "string_a", "string_b"),
    "images": doubled("ImageBatch", SMALL, "image1", "image2"),
    "latents": doubled("LatentBatch", ("EmptyLatentImage", {"width": 64, "height": 64}), "samples1", "samples2"),
    "replaced texts": doubled(
        "StringReplace", ("PrimitiveString", {"value": "aa"}), "string", "find", "replace", times=1
    )
    | {
        f"n{at}": ("StringReplace", {"string": f"@n{at - 1}", "find": "a", "replace": "aaaaaaaaaaaaaaaa"})
        for at in range(1, 9)
    }
    | {"show": ("PreviewAny", {"source": "@n8"})},
}


def refused(nodes, tmp_path):
    with gf.Engine(settings=gf.Settings(output_dir=tmp_path)) as engine, pytest.raises(gf.NodeFailed) as error:
        engine.run(graph(**nodes))
    (problem,) = error.value.problems
    return problem


@pytest.mark.parametrize("name", COMPUTED)
def test_sizes_that_were_computed_are_refused_before_memory_is_taken(tmp_path, name):
    problem = refused({"million": MILLION, "wide": WIDE, **COMPUTED[name], "show": SHOW}, tmp_path)
    assert (problem.code, problem.node) == ("too_large", "big")
    assert problem.message.startswith("this would make ") and problem.hint.startswith("at most ")


@pytest.mark.parametrize("name", DOUBLED)
def test_what_is_doubled_again_and_again_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(limits, "LIMITS", Limits(pixels=1 << 20, latent=1 << 20, characters=1 << 20))
    problem = refused(DOUBLED[name], tmp_path)
    assert problem.code in ("too_large", "too_long") and problem.message.startswith("this would make ")


def test_the_largest_literals_are_refused_too(tmp_path):
    problem = refused(
        {"big": ("EmptyImage", {"width": 16384, "height": 16384, "batch_size": 4096}), "show": SHOW}, tmp_path
    )
    assert problem.message == "this would make 4,096 images of 16,384 x 16,384 pixels, 12 TiB of memory"


def test_conditionings_that_are_doubled_are_refused():
    entries = [("embedding", {})]
    with pytest.raises(gf.GraphFlowError, match="a list of 8,192 conditionings"):
        for _ in range(40):
            entries = conditioning_combine(entries, entries)


def test_a_list_on_a_link_has_an_end():
    @gf.node("Many")
    def many() -> gf.Each[int]:
        """A long list."""
        return list(range(100_000))

    @gf.node("Show", output=True)
    def show(value: int) -> gf.Ui:
        """Ends the graph."""
        return gf.Ui({})

    with gf.Engine(gf.Registry([many, show])) as engine, pytest.raises(gf.NodeFailed, match="a list of 100,000 values"):
        engine.run(graph(big=("Many", {}), show=("Show", {"value": "@big"})))


def test_steps_that_were_computed_have_an_end(tmp_path):
    problem = refused(
        {
            "million": MILLION,
            "m": ("CheckpointLoaderSimple", {"ckpt_name": "graphflow-tiny"}),
            "t": ("CLIPTextEncode", {"clip": "@m:1", "text": ""}),
            "l": ("EmptyLatentImage", {"width": 64, "height": 64}),
            "big": (
                "KSampler",
                {
                    "model": "@m",
                    "positive": "@t",
                    "negative": "@t",
                    "latent_image": "@l",
                    "seed": 1,
                    "steps": "@million",
                    "cfg": 1.0,
                    "sampler_name": "euler",
                    "scheduler": "normal",
                    "denoise": 1.0,
                },
            ),
            "show": SHOW,
        },
        tmp_path,
    )
    assert (problem.node, problem.input, problem.message) == ("big", "steps", "this would make 1,000,000 steps")


def test_sizes_without_pixels_are_refused(tmp_path):
    nodes = {
        "less": ("PrimitiveInt", {"value": -5}),
        "big": ("EmptyImage", {"width": "@less", "height": 3}),
        "show": SHOW,
    }
    assert refused(nodes, tmp_path).message == "this would make an image of -5 x 3 pixels"


def test_what_people_make_passes():
    check_pixels(16384, 16384)
    check_pixels(1280, 720, 257)
    check_latent((4096, 4, 128, 128))
    check_items(1000, "conditionings")
    check_text(1_000_000)
