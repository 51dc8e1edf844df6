"""The cost of a run from headers: bytes as the pool counts them, turns, passes, and what cannot fit."""

import json

import pytest
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import cost as cost_module
from graphflow_nodes.families.opened import open_model, open_text_encoders, open_vae
from graphflow_nodes.families.weight_bytes import weight_bytes
from graphflow_nodes.families.work import TEXT, ImageSize, decoder_work, denoiser_work
from PIL import Image as Picture

import graphflow as gf
from graphflow.cli import main
from tests.graphs import graph
from tests.nodes.families import tiny, tiny_flow, tiny_qwen
from tests.nodes.families.denoisers import DENOISERS
from tests.nodes.families.test_check_graph import AE, GEMMA, LUMINA, QWEN3, VISION, Z, sampled
from tests.nodes.files import sparse


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    found = tmp_path_factory.mktemp("cost") / "models"
    for name in (Z, LUMINA, QWEN3, GEMMA, AE):
        tiny_flow.save(found, name)
    tiny_qwen.save(found, VISION)
    tiny.tiny("sd1").save(found / "checkpoints" / "sd1.safetensors")
    return found


@pytest.fixture
def engine(models, tmp_path):
    def made(**settings):
        folders = {"output_dir": tmp_path, "input_dir": tmp_path}
        stated = gf.Settings(models=(models,), device="cpu", **folders, **settings)
        return gf.Engine(settings=stated, cache=gf.Cache())

    return made


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_counted_as_the_pool_counts_them(dtype, models, engine):
    with engine(dtype=dtype) as found:
        settings = found.settings
        opened = open_model(models / "checkpoints" / "sd1.safetensors", settings)
        handles = [
            (open_model(models / "diffusion_models" / Z, settings).model, "denoiser"),
            (open_text_encoders([models / "text_encoders" / QWEN3], settings), "text.qwen3"),
            (open_vae(models / "vae" / AE, settings), "vae"),
            (opened.model, "denoiser"),
            (opened.clip, "text.l"),
        ]
        for handle, part in handles:
            stated, packed = weight_bytes(handle, part, dtype)
            with open_device(settings).use(handle, part) as loaded:
                assert stated == pytest.approx(loaded.bytes, rel=0.01) and not packed, part


def test_what_stays_packed_takes_the_bytes_of_its_file(models, engine):
    shapes = {
        "embed_tokens.weight": (151936, 64),
        "norm.weight": (64,),
        "layers.0.mlp.gate_proj.weight": (96, 64),
        "layers.0.self_attn.q_proj.weight": (64, 64),
        "layers.0.self_attn.k_proj.weight": (32, 64),
        "layers.0.self_attn.q_norm.weight": (32,),
        "layers.0.input_layernorm.weight": (64,),
    }
    stored = {f"model.{name}": ("F8_E4M3" if len(shape) > 1 else "BF16", shape) for name, shape in shapes.items()}
    path = sparse.write(models / "text_encoders" / "half.safetensors", stored)
    with engine() as found:
        clip = open_text_encoders([path], found.settings)
        bytes, packed = weight_bytes(clip, "text.qwen3", "float32")
    matrices = 151936 * 64 + 96 * 64 + 32 * 64 + 64 * 64
    assert packed == "fp8" and bytes == matrices + 4 * (64 + 32 + 64)


def test_passes_and_rows_are_those_that_a_sampler_makes(engine):
    sampler = {"model": "@model", "positive": "@text", "negative": "@none", "latent_image": "@empty"}
    with engine() as found:
        for more, passes in (({"cfg": 1.0}, 20), ({"cfg": 4.0}, 20), ({"cfg": 4.0, "sampler_name": "heun"}, 40)):
            (cost,) = found.costs(sampled(Z, QWEN3, sample=("KSampler", {**sampler, "steps": 20, **more})))
            (stage,) = (stage for stage in cost.stages if stage.passes)
            assert (stage.node, cost.passes) == ("sample", passes)
            assert stage.rows == (1 if more["cfg"] == 1.0 else 2)


def test_parts_take_turns_under_a_budget_and_the_peak_is_lower(engine):
    made = sampled(Z, QWEN3)
    with engine() as found:
        (free,) = found.costs(made)
    with engine(memory=21_000_000) as found:
        (narrow,) = found.costs(made)
    assert not free.takes_turns and narrow.takes_turns and narrow.peak < free.peak
    assert {load.part for load in free.loads} == {"text.qwen3", "denoiser", "vae"}


def test_a_size_that_shows_only_in_the_run_is_stated_as_such(engine, tmp_path):
    Picture.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    image = {"empty": ("VAEEncode", {"pixels": "@image", "vae": "@vae"})}
    with engine() as found:
        (known,) = found.costs(sampled(Z, QWEN3, **image, image=("EmptyImage", {"width": 128, "height": 64})))
        (unknown,) = found.costs(sampled(Z, QWEN3, **image, image=("LoadImage", {"image": "picture.png"})))
    assert known.sizes_known and not unknown.sizes_known and unknown.peak > known.peak
    assert "1024 x 1024" in unknown.lines()[-1]


def test_work_grows_with_the_image_and_the_rows(models, engine):
    with engine() as found:
        opened = open_model(models / "checkpoints" / "sd1.safetensors", found.settings)
        flow = open_model(models / "diffusion_models" / Z, found.settings).model
    small, large = ImageSize(256, 256), ImageSize(512, 512)
    assert denoiser_work(opened.model, large, 2, 4) == 4 * denoiser_work(opened.model, small, 2, 4)
    assert denoiser_work(flow, large, 2, 4) == 2 * denoiser_work(flow, large, 1, 4) > denoiser_work(flow, small, 2, 4)
    assert decoder_work(opened.vae, large, 4) == 4 * decoder_work(opened.vae, small, 4)


def test_a_token_is_the_cells_that_a_family_packs_into_it(engine, tmp_path):
    sides = {"flux": 2, "sd3": 2, "z_image": 2, "qwen_image_21": 1, "flux2": 1, "wan": 2}
    size = ImageSize(512, 512)
    with engine() as found:
        for family in sides:
            name, write = DENOISERS[family]
            write(tmp_path)
            path = next(path for path in tmp_path.rglob(name) if path.is_file())
            model = open_model(path, found.settings).model
            cells = (512 // model.latent.factor) ** 2
            whole, one = denoiser_work(model, size, 1, 4), denoiser_work(model, ImageSize(16, 16), 1, 4)
            per_token = one / ((16 // model.latent.factor) ** 2 // sides[family] ** 2 + TEXT)
            assert whole == pytest.approx(per_token * (cells // sides[family] ** 2 + TEXT)), family


def test_a_run_that_cannot_fit_is_refused_with_the_way_out(engine, monkeypatch):
    monkeypatch.setattr(cost_module, "memory_of_machine", lambda: 10_000_000)
    with engine() as found:
        problems = {problem.node: problem for problem in found.check(sampled(Z, QWEN3)).problems}
    assert (
        problems["text"].code == "too_large" and "20 MB of them for qwen_3_4b.safetensors" in problems["text"].message
    )
    assert "--dtype bfloat16 takes 10" in problems["text"].hint


def test_a_file_larger_than_all_memory_is_a_problem_of_the_node_that_needs_it_and_nothing_is_read(models, engine):
    """A sparse file of 2 TB, on any machine; a budget changes nothing, as a part is needed whole."""
    wide = {
        "embed_tokens.weight": (151936, 4096),
        "norm.weight": (4096,),
        "layers.0.mlp.gate_proj.weight": (1 << 28, 4096),
        "layers.0.self_attn.q_proj.weight": (4096, 4096),
        "layers.0.self_attn.k_proj.weight": (1024, 4096),
        "layers.0.self_attn.q_norm.weight": (128,),
        "layers.0.input_layernorm.weight": (4096,),
    }
    sparse.write(models / "text_encoders" / "huge.safetensors", {f"model.{name}": one for name, one in wide.items()})
    made = graph(
        clip=("CLIPLoader", {"clip_name": "huge.safetensors", "type": "lumina2"}),
        text=("CLIPTextEncode", {"clip": "@clip", "text": "a fox"}),
        show=("PreviewAny", {"source": "@text"}),
    )
    for budget in (None, 1 << 30):
        with engine(memory=budget, dtype="bfloat16") as found:
            (problem,) = found.check(made).problems
            assert (problem.node, problem.code) == ("text", "too_large")
            assert "2200.3 GB of them for huge.safetensors in bfloat16, and this machine has" in problem.message
            assert "its fp8 or int8 file, which stays packed, about 1100.2 GB" in problem.hint
            with pytest.raises(gf.InvalidWorkflow):
                found.run(made)
            (cost,) = found.costs(made)
            assert [load.file for load in cost.loads] == ["huge.safetensors"], "its cost is stated all the same"


def test_a_run_is_refused_for_the_size_that_its_images_have_and_for_none_that_is_assumed(engine, tmp_path, monkeypatch):
    Picture.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    latent = {"empty": ("VAEEncode", {"pixels": "@image", "vae": "@vae"})}
    images = {
        "small": {"image": ("EmptyImage", {"width": 64, "height": 64})},
        "unknown": {"image": ("LoadImage", {"image": "picture.png"})},
        "large": {"image": ("EmptyImage", {"width": 2048, "height": 2048})},
    }
    monkeypatch.setattr(cost_module, "memory_of_machine", lambda: 200_000_000)
    with engine() as found:
        refused = {
            name: {problem.node for problem in found.check(sampled(Z, QWEN3, **latent, **image)).problems}
            for name, image in images.items()
        }
    assert not refused["small"] and not refused["unknown"] and "empty" in refused["large"]


def test_the_command_prints_it_and_gives_it_as_json(models, tmp_path, capsys):
    file = tmp_path / "w.json"
    file.write_text(json.dumps(sampled(Z, QWEN3).to_json()))
    options = [str(file), "--models", str(models), "--device", "cpu"]
    assert main(["validate", "--cost", *options]) == 0
    text = capsys.readouterr().out
    assert "qwen_3_4b.safetensors" in text and "KSampler: 20 passes of 2 rows" in text and "at the peak" in text
    assert main(["validate", "--cost", "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["valid"] and found["cost"][0]["passes"] == 20
