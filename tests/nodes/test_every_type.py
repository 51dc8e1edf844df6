"""What holds for every node type of the library, and for those that the field has under the same name.

`node_facts.json` is a short form of the field's own descriptions: names, types, defaults, ranges, outputs
(PreviewAny as its later versions have it: with its text as an output).
"""

import json
from pathlib import Path

import pytest

import graphflow as gf
from graphflow.formats.object_info import describe

FACTS = json.loads((Path(__file__).parents[1] / "data" / "node_facts.json").read_text(encoding="utf-8"))
REGISTRY = gf.Registry.installed()
A_PART = {"sampler_name", "scheduler"}
"""Choices of which we have a part."""


def _options(spec):
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    return {**options, "options": kind, "type": "COMBO"} if isinstance(kind, list) else {**options, "type": kind}


def _described(name):
    data = describe(REGISTRY[name], gf.Settings())
    return data, {key: _options(spec) for group in data["input"].values() for key, spec in group.items()}


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_node_type_says_what_it_does_and_where_it_belongs(name):
    kind = REGISTRY[name]
    assert (len(kind.help) > 5 and kind.help[0].isupper()) or kind.help[0].isdigit()
    assert kind.category and kind.display_name
    assert kind.stated_version, "a cached result must not depend on how the function is written"
    assert kind.outputs or kind.is_output


@pytest.mark.parametrize("name", sorted(set(FACTS) & set(REGISTRY)))
def test_a_node_type_of_the_field_has_its_inputs_defaults_and_ranges(name):
    _, ours = _described(name)
    for key, wanted in FACTS[name]["inputs"].items():
        found = ours[key]
        assert found["type"] == wanted["type"], key
        for fact in ("default", "min", "max", "step", "lazy", "control_after_generate", "image_upload"):
            if fact in wanted:
                assert (
                    found[fact] == pytest.approx(wanted[fact]) if fact != "default" else found[fact] == wanted[fact]
                ), key
        if wanted["type"] == "COMBO" and "options" in wanted:
            have, want = set(found["options"]), set(wanted["options"])
            assert have <= want if key in A_PART else have == want, key
        if "template" in wanted:
            have, want = found["template"], wanted["template"]
            assert {part: have[part] for part in want if part != "input"} == {
                part: want[part] for part in want if part != "input"
            }
    assert set(ours) == set(FACTS[name]["inputs"])


@pytest.mark.parametrize("name", sorted(set(FACTS) & set(REGISTRY)))
def test_a_node_type_of_the_field_has_its_outputs(name):
    data, _ = _described(name)
    for fact in ("output", "output_name", "output_is_list", "output_node"):
        assert data[fact] == FACTS[name][fact]


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
    _, ours = _described(name)
    found, wanted = _choices(ours[key]["options"]), _choices(FACTS[name]["inputs"][key]["options"])
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
