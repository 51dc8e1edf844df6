"""What popular packs do and no documentation asks for works: sockets that are equal to everything, choices of
numbers."""

import json

import pytest
import torch
from PIL import Image

import graphflow as gf
from graphflow.cli import main
from graphflow.formats.object_info import describe

from ...graphs import graph
from .conftest import PACKS


@pytest.fixture(scope="module")
def registry():
    registry = gf.Registry.installed([PACKS])
    assert not [problem.message for problem in registry.problems if "popular" in problem.message]
    return registry


def shown(engine, **nodes):
    return engine.run(graph(**nodes, out=("PreviewAny", {"source": "@last"}))).nodes["out"].ui["text"][0]


# -- sockets
# ------------------------------------------------------------------------------------------------------------


def test_a_type_that_is_equal_to_everything_goes_with_every_type_and_is_no_choice(engine):
    kind = engine.registry["Popular Show"]
    assert [item.type for item in kind.inputs.values()] == ["*", "*", "*"] and kind.outputs[0].type == "*"
    workflow = graph(
        image=("EmptyImage", {"width": 8, "height": 8}),
        text=("PrimitiveString", {"value": "x"}),
        any=("Popular Show", {"first": "@text", "second": "@image:0", "third": 3}),
        last=("StringLength", {"string": "@any"}),
        out=("PreviewAny", {"source": "@last"}),
    )
    result = engine.run(workflow)
    assert "('first', 'x'), ('second', tensor(" in result.nodes["any"].ui["text"][0]
    assert result.nodes["out"].ui["text"][0] == "1"


def test_a_choice_of_numbers_or_booleans_takes_what_it_lists_and_nothing_that_looks_like_it(engine):
    first = {"on": False, "scale": 1, "share": "all", "mode": "a"}

    def steps(**inputs):
        return shown(engine, last=("Popular Steps", first | inputs))

    assert steps() == "[False, 1, 'all', 'a']"
    assert steps(on=True, scale=4, share=1, mode="b") == "[True, 4, 1.0, 'b']"
    for inputs in ({"on": 1}, {"on": "True"}, {"scale": True}, {"scale": "2"}, {"scale": 3}, {"share": None}):
        (problem,) = engine.validate(
            graph(last=("Popular Steps", first | inputs), out=("PreviewAny", {"source": "@last"}))
        )
        assert problem.code == "not_a_choice" and problem.input in inputs
    assert problem.hint == 'known: 0.5, 1.0, "all"'


def test_a_choice_of_numbers_is_described_as_the_field_does_and_shown_by_the_shell(engine, capsys):
    told = describe(engine.registry["Popular Steps"], engine.settings)["input"]["required"]
    assert told["on"][0] == [True, False] and told["scale"][0] == [1, 2, 4] and told["mode"][0] == ["a", "b"]
    assert main(["nodes", "Popular Steps", "--nodes", str(PACKS)]) == 0
    assert "1, 2, 4" in capsys.readouterr().out
    assert main(["nodes", "Popular Steps", "--nodes", str(PACKS), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"]["on"]["choices"] == [True, False]


def test_a_single_type_in_place_of_a_tuple_of_types_is_one_output(engine):
    assert [output.type for output in engine.registry["Popular Defaults"].outputs] == ["STRING"]


# -- the module `nodes`
# -------------------------------------------------------------------------------------------------


def picture(folder, name):
    with Image.open(folder / name) as opened:
        return opened.getpixel((0, 0)), set(opened.text)


def test_a_pack_that_derives_from_the_saver_says_where_and_under_which_name_it_saves(engine):
    workflow = graph(
        image=("EmptyImage", {"width": 8, "height": 8, "color": 0x0A141E}),
        save=("Popular SaveElsewhere", {"images": "@image"}),
    )
    (shown,) = engine.run(workflow, extra_pnginfo={"workflow": {}}).nodes["save"].ui["images"]
    assert (shown["filename"], shown["subfolder"], shown["type"]) == ("ComfyUI_mine_00001_.png", "", "temp")
    assert picture(engine.settings.temp_dir, shown["filename"]) == ((10, 20, 30), {"prompt", "workflow"})
    assert not engine.settings.output_dir.exists()


def test_a_saver_of_a_pack_writes_again_what_is_gone_and_into_another_folder(registry, tmp_path):
    workflow = graph(
        image=("EmptyImage", {"width": 8, "height": 8}), save=("Popular SaveElsewhere", {"images": "@image"})
    )

    def saved(name):
        settings = gf.Settings(output_dir=tmp_path / name, temp_dir=tmp_path / name / "temp")
        with gf.Engine(registry, settings, cache=gf.Cache(tmp_path / "cache")) as engine:
            engine.run(workflow)
        return sorted(path.name for path in settings.temp_dir.glob("*.png"))

    first = ["ComfyUI_mine_00001_.png"]
    assert saved("a") == first and saved("a") == first and saved("b") == first
    (tmp_path / "b" / "temp" / first[0]).unlink()
    assert saved("b") == first


def test_two_saves_of_one_node_are_two_files_also_in_a_run_that_has_a_name(registry, tmp_path):
    settings = gf.Settings(output_dir=tmp_path / "out", temp_dir=tmp_path / "temp")
    workflow = graph(
        image=("EmptyImage", {"width": 8, "height": 8}), save=("Popular PreviewTwice", {"images": "@image"})
    )
    with gf.Engine(registry, settings, cache=gf.Cache(tmp_path / "cache")) as engine:
        shown = engine.run(workflow, run_id="named").nodes["save"].ui["images"]
    assert [item["type"] for item in shown] == ["temp", "temp"]
    assert all(item["filename"].startswith("twice_temp_") for item in shown)
    pictures = [picture(settings.temp_dir, item["filename"]) for item in shown]
    assert pictures == [((0, 0, 0), {"prompt"}), ((255, 255, 255), set())]


LOAD = ("CheckpointLoaderSimple", {"ckpt_name": "graphflow-tiny"})
CLIP = {"clip": "@load:1"}
DRAWN = graph(
    load=LOAD,
    yes=("CLIPTextEncode", {"text": "a red apple", **CLIP}),
    no=("CLIPTextEncode", {"text": "", **CLIP}),
    empty=("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
    draw=(
        "KSampler",
        {
            "model": "@load",
            "seed": 1,
            "steps": 4,
            "cfg": 2.0,
            "sampler_name": "euler",
            "denoise": 1.0,
            "scheduler": "normal",
            "positive": "@yes",
            "negative": "@no",
            "latent_image": "@empty",
        },
    ),
    picture=("VAEDecode", {"samples": "@draw", "vae": "@load:2"}),
    again=("VAEEncode", {"pixels": "@picture", "vae": "@load:2"}),
)


@pytest.mark.parametrize("how", ["whole", "parts", "node"])
def test_the_library_called_by_position_gives_what_its_nodes_give(registry, tmp_path, how):
    # Each sampler keeps its state at each step, and one of them must not find that of the other.
    settings = gf.Settings(output_dir=tmp_path, checkpoint_every=0.0)
    workflow = graph(
        load=LOAD, draw=("Popular Draw", {"model": "@load", "clip": "@load:1", "vae": "@load:2", "how": how})
    )
    with gf.Engine(registry, settings, cache=gf.Cache(tmp_path / "cache")) as engine:
        latent, image, again = engine.run(workflow, targets=["draw"]).nodes["draw"].outputs.values()
        wanted = engine.run(DRAWN, targets=["draw", "picture", "again"]).nodes
    torch.testing.assert_close(latent["samples"], wanted["draw"].outputs["LATENT"]["samples"])
    torch.testing.assert_close(image, wanted["picture"].outputs["IMAGE"])
    torch.testing.assert_close(again["samples"], wanted["again"].outputs["LATENT"]["samples"])


def test_what_the_library_gives_a_pack_may_be_written_into(engine):
    load = {"load": LOAD, "empty": ("EmptyLatentImage", {"width": 64, "height": 64})}
    changed = ("Popular Changes", {"vae": "@load:2", "samples": "@empty"})
    whole = ("VAEDecode", {"vae": "@load:2", "samples": "@empty"})
    found = engine.run(graph(**load, changed=changed, whole=whole), targets=["changed", "whole"]).nodes
    torch.testing.assert_close(found["changed"].outputs["IMAGE"], found["whole"].outputs["IMAGE"] / 2)


def test_what_packs_call_on_models_does_what_the_nodes_do_and_the_rest_says_what_is_missing(engine):
    workflow = graph(
        load=LOAD,
        image=("EmptyImage", {"width": 67, "height": 64, "color": 0xC02010}),
        by_hand=("Popular Handles", {"model": "@load", "clip": "@load:1", "vae": "@load:2", "image": "@image"}),
        cond=("CLIPTextEncode", {"clip": "@load:1", "text": "a (red:1.2) apple"}),
        latent=("VAEEncode", {"pixels": "@image", "vae": "@load:2"}),
        picture=("VAEDecode", {"samples": "@latent", "vae": "@load:2"}),
    )
    found = engine.run(workflow, targets=["by_hand", "cond", "latent", "picture", "load"]).nodes
    model, cond, latent, picture, missed = found["by_hand"].outputs.values()
    assert model == found["load"].outputs["MODEL"]
    torch.testing.assert_close(cond[0][0], found["cond"].outputs["CONDITIONING"][0][0])
    torch.testing.assert_close(cond[0][1], found["cond"].outputs["CONDITIONING"][0][1])
    torch.testing.assert_close(latent["samples"], found["latent"].outputs["LATENT"]["samples"])
    torch.testing.assert_close(picture, found["picture"].outputs["IMAGE"])
    assert missed == "a MODEL is a handle here: it names a model and has no 'unpatch_model' (see docs/packs.md)"


def test_what_changes_the_results_of_the_library_changes_those_of_a_pack_that_calls_it(registry):
    def environment(**settings):
        return registry["Popular Draw"].environment(gf.Settings(**settings))

    assert "diffusers" in environment() and "transformers" in environment()
    assert environment(together=4) != environment(together=1) == environment()


def test_a_class_derived_from_a_loader_runs_again_when_its_file_has_changed_and_only_then(engine):
    started = []
    workflow = graph(load=("Popular LoadPlain", {"image": "x.png"}))
    for grey in (0, 255):
        Image.new("L", (4, 4), grey).save(engine.settings.input_dir / "x.png")
        for _ in range(2):
            done = engine.run(workflow, targets=["load"], on_event=started.append)
            assert done.nodes["load"].outputs["IMAGE"].mean() == grey / 255
    assert len([event for event in started if isinstance(event, gf.events.NodeStarted)]) == 2


def test_a_node_class_that_a_pack_assigns_to_the_mapping_of_the_program_is_a_node_type(engine):
    assert engine.registry["Popular Added"].display_name == "Added by assignment"
    assert shown(engine, last=("Popular Added", {})) == "3"


# -- what they import
# ---------------------------------------------------------------------------------------------------


def test_what_popular_packs_import_is_there_and_a_video_passes_from_node_to_node(engine):
    # That the pack has loaded says that its imports, routes and middlewares were taken.
    video = ("Popular Video", {"images": "@image", "path": "a.mp4"})
    image = ("EmptyImage", {"width": 8, "height": 16, "batch_size": 6})
    assert shown(engine, image=image, v=video, last=("Popular VideoSize", {"video": "@v"})) == "(8, 16) 1.5 s"
    with pytest.raises(gf.NodeFailed, match=r"a.mp4 cannot be read"):
        shown(engine, image=image, v=video, last=("Popular VideoSize", {"video": "@v:1"}))


def test_helpers_for_noise_and_conditionings_do_what_they_say(engine):
    workflow = graph(
        load=LOAD,
        empty=("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 2}),
        text=("CLIPTextEncode", {"clip": "@load:1", "text": "x"}),
        last=(
            "Popular Helpers",
            {"model": "@load", "clip": "@load:1", "vae": "@load:2", "latent": "@empty", "conditioning": "@text"},
        ),
    )
    latent, conditioning = engine.run(workflow, targets=["last"]).nodes["last"].outputs.values()
    torch.testing.assert_close(latent["samples"], torch.randn(2, 4, 8, 8, generator=torch.manual_seed(5)))
    assert conditioning[0][1]["guidance"] == 3.5 and conditioning[0][1]["references"] == ["a", "b"]


def test_a_node_finds_its_own_run_in_the_queue(engine):
    assert shown(engine, last=("Popular Queue", {})) == "True"


def test_a_video_file_is_copied_as_it_is_where_nothing_else_is_asked_for(registry, tmp_path):
    from comfy_api.input_impl import VideoFromFile

    (tmp_path / "a.mp4").write_bytes(b"frames")
    VideoFromFile(str(tmp_path / "a.mp4")).save_to(tmp_path / "b.mp4", format="mp4")
    assert (tmp_path / "b.mp4").read_bytes() == b"frames"
    with pytest.raises(gf.GraphFlowError, match=r"a.mp4 cannot be read"):
        VideoFromFile(str(tmp_path / "a.mp4")).save_to(tmp_path / "b.webm", format="webm")


# -- slips
# --------------------------------------------------------------------------------------------------------------


def test_outputs_too_many_are_left_out_and_missing_ones_fail_only_who_needs_them(engine):
    few = ("Popular TooFew", {})
    assert shown(engine, last=few) == "one"
    with pytest.raises(gf.NodeFailed, match="TooFew gave 1 of the 2 outputs that it declares"):
        shown(engine, few=few, last=("StringLength", {"string": "@few:1"}))
    assert engine.run(graph(a=("Popular TooMany", {"text": "shown"}))).nodes["a"].ui == {"text": ["shown"]}


def test_a_pack_that_imports_a_node_that_we_lack_fails_only_where_it_uses_it(engine):
    with pytest.raises(gf.NodeFailed, match="the node library has no CheckpointLoader"):
        engine.run(graph(load=LOAD, a=("Popular UsesLora", {"model": "@load"})), targets=["a"])


def test_a_pack_that_star_imports_the_program_does_not_export_its_nodes(tmp_path):
    (tmp_path / "star.py").write_text("from nodes import *\n")
    registry = gf.Registry.installed([tmp_path])
    assert not registry.problems and registry["KSampler"].pack == gf.Registry.installed()["KSampler"].pack
