"""What holds for every node type of the library, and for those that ComfyUI has under the same name."""

import json
from pathlib import Path

import pytest

import graphflow as gf
from graphflow.formats.object_info import describe

FIELD = json.loads((Path(__file__).parents[2] / "data" / "editor" / "object_info.json").read_text(encoding="utf-8"))
"""The field's own descriptions."""
REGISTRY = gf.Registry.installed()
MORE = {"sampler_name", "type", "reference_latents_method"}
"""Choices of which later versions of ComfyUI have more."""
FILES = {
    "ckpt_name",
    "vae_name",
    "image",
    "latent",
    "unet_name",
    "clip_name",
    "clip_name1",
    "clip_name2",
    "lora_name",
    "model_name",
    "control_net_name",
    "folder",
    "audio",
}
"""Choices of what the folders hold."""
LATER_INPUTS = {
    "ImageScaleToTotalPixels": ["resolution_steps"],
    "CFGNorm": ["pre_cfg"],
    "LTXVAddGuide": ["iclora_parameters"],
}
"""Inputs that only later versions of ComfyUI have."""
STAND_INS = {
    "CFGOverride",
    "EmptyFlux2LatentImage",
    "Flux2Scheduler",
    "ManualSigmas",
    "QwenImage21Cache",
    "TextEncodeQwenImage21",
    "TextGenerate",
}
"""Node types whose descriptions there are made up for tests of the editor."""
LATER = {
    "MaskPreview",
    "PreviewAny",
    "PreviewAudio",
    "PreviewImage",
    "SaveAudio",
    "SaveAudioMP3",
    "SaveAudioOpus",
    "SaveImage",
    "GetVideoComponents",
    "SaveVideo",
    "SaveWEBM",
}
"""Node types with outputs that only later versions of ComfyUI have."""
REWRITTEN = {"CreateVideo", "SaveVideo"}
"""Node types whose inputs later versions of ComfyUI have in another form or order: one has `bit_depth` beside `fps`,
the format of the other brings inputs of its own."""


def _options(spec):
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    return {**options, "options": kind, "type": "COMBO"} if isinstance(kind, list) else {**options, "type": kind}


def _inputs(description):
    groups = (description["input"].get(name, {}) for name in ("required", "optional"))
    return {key: _options(spec) for group in groups for key, spec in group.items()}


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_node_type_says_what_it_does_and_where_it_belongs(name):
    kind = REGISTRY[name]
    assert (len(kind.help) > 5 and kind.help[0].isupper()) or kind.help[0].isdigit()
    assert kind.category and kind.display_name
    assert kind.stated_version, "a cached result must not depend on how the function is written"
    assert kind.outputs or kind.is_output


@pytest.mark.parametrize("name", sorted(set(FIELD) & set(REGISTRY) - STAND_INS - REWRITTEN))
def test_a_node_type_of_the_field_has_its_inputs_defaults_and_ranges(name):
    ours, field = _inputs(describe(REGISTRY[name], gf.Settings())), _inputs(FIELD[name])
    assert list(ours) == list(field) + LATER_INPUTS.get(name, [])
    for key, wanted in field.items():
        found = ours[key]
        assert found["type"] == wanted["type"], key
        for fact in ("default", "min", "max", "step", "lazy", "control_after_generate", "image_upload", "audio_upload"):
            if fact in wanted and not wanted.get("forceInput"):  # a socket without a widget has none of them
                assert found[fact] == wanted[fact] or found[fact] == pytest.approx(wanted[fact]), (key, fact)
        if isinstance(wanted.get("options"), list) and wanted["type"] == "COMBO" and key not in FILES:
            have, want = set(found["options"]), set(wanted["options"])
            assert have >= want if key in MORE else have == want, key
        if "template" in wanted:
            have, want = found["template"], wanted["template"]
            assert {part: have[part] for part in want if part != "input"} == {
                part: want[part] for part in want if part != "input"
            }


@pytest.mark.parametrize("name", sorted(set(FIELD) & set(REGISTRY) - LATER))
def test_a_node_type_of_the_field_has_its_outputs(name):
    ours = describe(REGISTRY[name], gf.Settings())
    for fact in ("output", "output_name", "output_node"):
        assert ours[fact] == FIELD[name][fact]


def test_the_node_types_of_the_field_that_give_lists_are_those_that_batch_anew():
    of_the_field = set(FIELD) & set(REGISTRY)
    giving = {name for name in of_the_field if any(output.each for output in REGISTRY[name].outputs)}
    assert giving == {"RebatchImages", "RebatchLatents"}


def _choices(options):
    """{variant: {input: (type, default)}} of a choice that brings inputs of its own."""
    return {
        item["key"]: {
            key: (_options(spec)["type"], _options(spec).get("default"), _options(spec).get("options"))
            for group in item["inputs"].values()
            for key, spec in group.items()
        }
        for item in options
    }


@pytest.mark.parametrize("name, key", [("ResizeImageMaskNode", "resize_type"), ("SaveImageAdvanced", "format")])
def test_variants_of_the_field_have_their_inputs_and_defaults(name, key):
    ours, field = _inputs(describe(REGISTRY[name], gf.Settings())), _inputs(FIELD[name])
    found, wanted = _choices(ours[key]["options"]), _choices(field[key]["options"])
    assert {variant: set(inputs) for variant, inputs in found.items()} == {
        variant: set(inputs) for variant, inputs in wanted.items()
    }
    for variant, inputs in wanted.items():
        for each, (kind, default, options) in inputs.items():
            have = found[variant][each]
            assert have[0] == kind and (default is None or have[1] == default) and have[2] == options


def test_listing_all_node_types_imports_no_torch():
    import subprocess
    import sys

    code = "import sys, graphflow as gf; gf.Registry.installed(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
