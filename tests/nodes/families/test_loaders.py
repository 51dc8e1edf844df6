"""Models from files: every form that is read gives the same pictures; what is no model is refused by name."""

import os
import pickle
import shutil
import socket

import pytest
import torch
from graphflow_nodes.devices.pool import Pool
from graphflow_nodes.families.kits.clip import VOCABULARY
from graphflow_nodes.files import load
from graphflow_nodes.files.folders import BUILTIN, ModelFolders
from graphflow_nodes.files.header import read_header
from safetensors.torch import load_file, save_file

import graphflow as gf

from . import tiny as t


def prompt(**changes):
    """Two steps on a loaded checkpoint, decoded."""
    workflow = gf.Workflow.from_json(
        {
            "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "small.safetensors"}},
            "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}},
            "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "an apple"}},
            "3": {
                "class_type": "KSampler",
                "inputs": {
                    "model": ["4", 0],
                    "positive": ["6", 0],
                    "negative": ["6", 0],
                    "latent_image": ["5", 0],
                    "steps": 2,
                    "cfg": 1.0,
                },
            },
            "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        }
    )
    for where, value in changes.items():
        workflow = workflow.set(where.replace("__", "."), value)
    return workflow


def run(models, workflow=None, target="8"):
    with gf.Engine(settings=gf.Settings(models=(models,))) as engine:
        return engine.run(workflow or prompt(), targets=[target])[target].outputs


def refused(models, workflow, target="4"):
    with pytest.raises(gf.GraphFlowError) as error:
        run(models, workflow, target)
    (problem,) = error.value.problems
    return problem


def test_a_single_file_is_a_whole_model(small):
    picture = run(small.models)["IMAGE"]
    assert picture.shape == (1, 64, 64, 3) and picture.std() > 0.01


def test_a_pickled_checkpoint_gives_the_same_picture(small):
    pickled = run(small.models, prompt(**{"4__ckpt_name": "old/small.ckpt"}))["IMAGE"]
    assert torch.equal(pickled, run(small.models)["IMAGE"])


def test_a_diffusers_folder_gives_the_same_picture(small, small_sd1, tmp_path):
    folder = tmp_path / "models" / "checkpoints" / "mine" / "small"
    for part, name in (("denoiser", "unet"), ("vae", "vae"), ("text.l", "text_encoder")):
        small_sd1.modules[part].save_pretrained(folder / name)
    shutil.copytree(VOCABULARY, folder / "tokenizer")
    (folder / "model_index.json").write_text("{}")
    picture = run(tmp_path / "models", prompt(**{"4__ckpt_name": "mine/small"}))["IMAGE"]
    torch.testing.assert_close(picture, run(small.models)["IMAGE"], rtol=0, atol=1e-5)


def test_weights_that_were_replaced_after_the_run_began_are_refused_and_not_taken_for_the_old_ones(small, tmp_path):
    file = tmp_path / "models" / "vae" / "my.safetensors"
    file.parent.mkdir(parents=True)
    old = (small.models / "vae" / "small_vae.safetensors").read_bytes()
    file.write_bytes(old)
    with gf.Engine(settings=gf.Settings(models=(tmp_path / "models",))) as engine:
        loading = gf.Workflow.from_json({"v": {"class_type": "VAELoader", "inputs": {"vae_name": file.name}}})
        (handle,) = engine.run(loading, targets=["v"])["v"].outputs.values()
    pool = Pool("cpu", load)
    save_file({name: weight + 1 for name, weight in load_file(file).items()}, file)
    with pytest.raises(gf.GraphFlowError, match=r"my.safetensors changed while the run went on"):
        hold(pool, handle)
    file.write_bytes(old)
    assert hold(pool, handle) is not None


def hold(pool, vae):
    with pool.use(vae, "vae", torch.float32) as part:
        return part.module


@pytest.mark.parametrize(
    "layout", ["LDM", "LDM of a whole checkpoint", "diffusers file", "old names", "diffusers folder"]
)
def test_a_vae_of_its_own_is_read_in_every_layout(small, small_sd1, tmp_path, layout):
    vae, module = tmp_path / "models" / "vae", small_sd1.modules["vae"]
    vae.mkdir(parents=True)
    weights = load_file(small.models / "vae" / "small_vae.safetensors")
    name = "my.safetensors"
    if layout == "LDM":
        save_file(weights, vae / name)
    elif layout == "LDM of a whole checkpoint":
        save_file({f"first_stage_model.{key}": value for key, value in weights.items()}, vae / name)
    elif layout == "diffusers file":
        save_file(module.state_dict(), vae / name)
    elif layout == "old names":
        old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        renamed = dict(module.state_dict())
        for new, before in old.items():
            renamed = {
                key.replace(f"attentions.0.{new}.", f"attentions.0.{before}."): one for key, one in renamed.items()
            }
        save_file(renamed, vae / name)
    else:
        name = "my_vae"
        module.save_pretrained(vae / name)
    workflow = prompt().set("8.vae", ["10", 0])
    workflow = gf.Workflow.from_json(
        {
            **workflow.to_json(),
            "10": {"class_type": "VAELoader", "inputs": {"vae_name": name}},
            "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "small.safetensors"}},
        }
    )
    shutil.copytree(small.models / "checkpoints", tmp_path / "models" / "checkpoints")
    torch.testing.assert_close(
        run(tmp_path / "models", workflow)["IMAGE"], run(small.models)["IMAGE"], rtol=0, atol=1e-5
    )


class Evil:
    def __reduce__(self):
        return print, ("code has run",)


@pytest.mark.parametrize("ending", [".ckpt", ".pt", ".pth"])
def test_a_pickle_with_code_in_it_is_refused_and_the_code_does_not_run(small, tmp_path, ending, capsys):
    folder = tmp_path / "models" / "checkpoints"
    folder.mkdir(parents=True)
    if ending == ".pth":
        (folder / f"evil{ending}").write_bytes(pickle.dumps({"state_dict": Evil()}))
    else:
        torch.save({"state_dict": {"a": Evil()}}, folder / f"evil{ending}")
    problem = refused(tmp_path / "models", prompt(**{"4__ckpt_name": f"evil{ending}"}), "8")
    assert f"evil{ending}" in problem.message and "safetensors" in problem.hint
    assert problem.code == ("unreadable_model" if ending == ".pth" else "unsafe_model")
    assert "code has run" not in capsys.readouterr().out


def test_a_file_that_was_not_downloaded_to_its_end_is_named_by_the_loader(small, tmp_path):
    whole = (small.models / "checkpoints" / "small.safetensors").read_bytes()
    folder = tmp_path / "models" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "cut.safetensors").write_bytes(whole[:-1])
    problem = refused(tmp_path / "models", prompt(**{"4__ckpt_name": "cut.safetensors"}))
    assert (problem.code, problem.node, problem.title) == ("unreadable_model", "4", "CheckpointLoaderSimple")
    assert (
        problem.message == f"cut.safetensors cannot be read: it ends after {len(whole) - 1:,} of {len(whole):,} bytes"
    )


def header(text):
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        b"\xff" * 64,
        b"<html>404 Not Found</html>",
        header(b"not JSON!"),
        header(b"[]"),
        header(b'{"a": 1}'),
        header(b'{"a":{"data_offsets":1}}'),
    ],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path, content):
    (tmp_path / "fake.safetensors").write_bytes(content)
    with pytest.raises(gf.GraphFlowError) as error:
        read_header(tmp_path / "fake.safetensors")
    assert error.value.problems[0].code == "unreadable_model"


def test_a_pickle_that_is_damaged_is_refused(small, tmp_path):
    folder = tmp_path / "models" / "checkpoints"
    folder.mkdir(parents=True)
    whole = (small.models / "checkpoints" / "old" / "small.ckpt").read_bytes()
    for name, content in (("cut.ckpt", whole[:1000]), ("none.ckpt", b""), ("text.ckpt", b"hello")):
        (folder / name).write_bytes(content)
        problem = refused(tmp_path / "models", prompt(**{"4__ckpt_name": name}), "8")
        assert problem.code in ("unreadable_model", "unsafe_model") and name in problem.message


@pytest.mark.parametrize(
    "name", ["model.diffusion_model.joint_blocks.0.x", "lora_unet_down.lora_up.weight", "control_model.x", "other.x"]
)
def test_a_file_without_a_model_that_can_run_is_refused_before_anything_is_computed(tmp_path, name):
    folder = tmp_path / "models" / "checkpoints"
    folder.mkdir(parents=True)
    save_file({name: torch.zeros(1)}, folder / "other.safetensors")
    problem = refused(tmp_path / "models", prompt(**{"4__ckpt_name": "other.safetensors"}))
    assert "other.safetensors" in problem.message and problem.node == "4"


def changed(small_sd1, tmp_path, drop=(), **more):
    weights = {name: value for name, value in small_sd1.weights.items() if name not in drop}
    t.Tiny(None, weights | more, {}).save(tmp_path / "models" / "checkpoints" / "changed.safetensors")
    return refused(tmp_path / "models", prompt(**{"4__ckpt_name": "changed.safetensors"}), "8")


def test_a_checkpoint_that_lacks_a_weight_is_refused_by_its_name_and_shape(small_sd1, tmp_path):
    problem = changed(small_sd1, tmp_path, drop=["model.diffusion_model.out.2.bias"])
    assert problem.code == "wrong_weights" and problem.message == (
        "changed.safetensors: the U-Net (Stable Diffusion 1.x) cannot be used: 1 of its 684 weights is missing: "
        "model.diffusion_model.out.2.bias [4]"
    )


def test_a_checkpoint_with_a_weight_of_another_shape_or_one_too_many_is_refused(small_sd1, tmp_path):
    name = "model.diffusion_model.middle_block.1.proj_in.weight"
    problem = changed(small_sd1, tmp_path, **{name: torch.zeros(64, 32, 1, 1)})
    assert f"1 weight has another shape: {name} is [64, 32, 1, 1], expected [64, 64, 1, 1]" in problem.message
    problem = changed(small_sd1, tmp_path, **{"model.diffusion_model.extra": torch.zeros(3)})
    assert "1 tensor has no place in it, the first is model.diffusion_model.extra [3]" in problem.message


def test_weights_that_are_no_numbers_load_and_the_node_that_meets_them_is_named(small_sd1, tmp_path):
    name = "model.diffusion_model.out.2.weight"
    problem = changed(small_sd1, tmp_path, **{name: torch.full((4, 32, 3, 3), torch.nan)})
    assert problem.code == "not_a_number" and problem.node == "3"


@pytest.mark.parametrize(
    ("part", "node", "advice"),
    [
        ("cond_stage_model.", "6", "has no text encoder: load one with CLIPLoader"),
        ("first_stage_model.", "8", "has no VAE: load one with VAELoader"),
    ],
)
def test_a_part_that_a_file_lacks_is_a_problem_only_where_it_is_used(small_sd1, tmp_path, part, node, advice):
    weights = {name: value for name, value in small_sd1.weights.items() if not name.startswith(part)}
    t.Tiny(None, weights, {}).save(tmp_path / "models" / "checkpoints" / "part.safetensors")
    workflow = prompt(**{"4__ckpt_name": "part.safetensors"})
    assert run(tmp_path / "models", workflow, "4")["MODEL"].family.name == "sd1"
    problem = refused(tmp_path / "models", workflow, "8")
    assert problem.node == node and problem.message.endswith(advice)


def test_a_missing_model_file_is_a_problem_that_says_what_the_folder_holds(small):
    with gf.Engine(settings=gf.Settings(models=(small.models,))) as engine:
        found = engine.validate(prompt(**{"4__ckpt_name": "nothing_like_it.ckpt"}))
        near = engine.validate(prompt(**{"4__ckpt_name": "small.ckpt"}))
    assert [p for p in found if p.code == "not_a_choice"] == [
        gf.Problem(
            "not_a_choice",
            "found 'nothing_like_it.ckpt', but there is no such file in models/checkpoints",
            "4",
            "CheckpointLoaderSimple",
            "ckpt_name",
            "models/checkpoints holds: graphflow-scenes, graphflow-tiny, old/small.ckpt, small.safetensors",
        )
    ]
    assert any("did you mean 'old/small.ckpt'" in p.hint for p in near if p.hint)


def test_an_empty_folder_says_so(tmp_path):
    nodes = {"1": {"class_type": "VAELoader", "inputs": {"vae_name": "a.safetensors"}}}
    with gf.Engine(settings=gf.Settings(models=(tmp_path,))) as engine:
        hints = [problem.hint for problem in engine.validate(gf.Workflow.from_json(nodes))]
    assert "models/vae holds nothing to choose from" in hints


def test_the_first_folder_that_has_a_name_wins_and_links_are_followed(tmp_path):
    for root in ("a", "b"):
        (tmp_path / root / "vae").mkdir(parents=True)
    (tmp_path / "a" / "vae" / "one.pt").write_bytes(b"")
    (tmp_path / "b" / "vae" / "one.pt").write_bytes(b"")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "two.safetensors").write_bytes(b"")
    (tmp_path / "b" / "vae" / "elsewhere").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "loop").symlink_to(tmp_path / "b" / "vae")
    found = ModelFolders([tmp_path / "a", tmp_path / "b"])
    assert found.list("vae") == ["elsewhere/two.safetensors", "one.pt"]
    assert found.find("vae", "one.pt") == tmp_path / "a" / "vae" / "one.pt"


@pytest.mark.parametrize("name", ["../checkpoints/x.ckpt", "/etc/passwd", "", ".", "one.pt\0"])
def test_a_name_that_is_not_listed_opens_nothing(tmp_path, name):
    with pytest.raises(gf.GraphFlowError) as error:
        ModelFolders([tmp_path]).find("vae", name)
    assert error.value.problems[0].code == "no_model"


def test_no_network_is_asked_ever(small, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert run(small.models)["IMAGE"] is not None
    assert run(small.models, prompt(**{"4__ckpt_name": "graphflow-tiny"}))["IMAGE"] is not None


@pytest.fixture
def tiny_copy(tmp_path):
    """A copy of the built-in model as `checkpoints/copy`, to be damaged."""
    copy = tmp_path / "checkpoints" / "copy"
    shutil.copytree(BUILTIN / "graphflow-tiny", copy)
    return copy


def told(models, capfd):
    """What is said of the copy when a picture is to be made with it; nothing else goes to the terminal."""
    workflow = gf.Workflow.load("workflows/text_to_image.json").set("4.ckpt_name", "copy").set("3.steps", 1)
    settings = gf.Settings(models=(models,))
    with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine, pytest.raises(gf.GraphFlowError) as error:
        engine.run(workflow, targets=["8"])
    assert "".join(capfd.readouterr()) == ""
    return {problem.code for problem in error.value.problems}, str(error.value)


@pytest.mark.parametrize(
    ("file", "content", "code", "said"),
    [
        ("tokenizer/vocab.json", b"{", "unreadable_model", "tokenizer cannot be read"),
        ("vae/config.json", b"[]", "unreadable_model", "config.json cannot be read: it is not a JSON object, in "),
        ("unet/config.json", b"[]", "unreadable_model", "config.json cannot be read: it is not a JSON object, in "),
        ("scheduler/scheduler_config.json", b"[]", "unreadable_model", "it is not a JSON object"),
        (
            "unet/diffusion_pytorch_model.safetensors",
            None,
            "unreadable_model",
            "unet cannot be read: it has no weights",
        ),
    ],
)
def test_what_is_wrong_with_a_part_of_a_folder_is_told_by_its_name(
    tiny_copy, tmp_path, capfd, file, content, code, said
):
    path = tiny_copy / file
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
        if content is not None:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    codes, message = told(tmp_path, capfd)
    assert code in codes and said in message and "weights_only" not in message


def test_a_pickle_with_code_in_a_folder_is_refused_and_the_code_does_not_run(tiny_copy, tmp_path, capfd):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tiny_copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"a": Evil()}, tiny_copy / "unet" / "diffusion_pytorch_model.bin")
    codes, message = told(tmp_path, capfd)
    assert not (tmp_path / "ran").exists() and "Traceback" not in message and "weights_only" not in message
    assert codes <= {"unsafe_model", "unreadable_model"}


def test_weights_of_a_variant_are_taken_where_there_are_no_others(tiny_copy, tmp_path):
    for part, name in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        (tiny_copy / part / f"{name}.safetensors").rename(tiny_copy / part / f"{name}.fp16.safetensors")
    workflow = gf.Workflow.load("workflows/text_to_image.json").set("3.steps", 1).set("5.batch_size", 1)
    with gf.Engine(settings=gf.Settings(models=(tmp_path,))) as engine:
        found = [
            engine.run(workflow.set("4.ckpt_name", name), targets=["8"])["8"].outputs["IMAGE"]
            for name in ("copy", "graphflow-tiny")
        ]
    assert torch.equal(*found)


def test_a_link_that_leads_nowhere_is_no_model(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    assert ModelFolders([tmp_path]).list("checkpoints") == ["graphflow-scenes", "graphflow-tiny"]
