"""VAEs, ControlNets and embeddings in training: what is learnt, that a stop changes no bit, and files that load."""

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel
from graphflow_nodes.families.controls import open_control
from graphflow_nodes.files.load import load_part
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.graphs import graph
from tests.nodes.architectures import UNET, VAE, write_architecture
from tests.nodes.library.training_runs import run, settings_of, stopped, wrong


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("networks")
    four = {"block_out_channels": [8] * 4, "down_block_types": ["DownEncoderBlock2D"] * 4}
    vae = {**VAE, **four, "up_block_types": ["UpDecoderBlock2D"] * 4}
    write_architecture(root / "models" / "checkpoints" / "small", unet={**UNET, "block_out_channels": [8, 16]}, vae=vae)
    write_architecture(root / "models" / "checkpoints" / "fine")
    (root / "models" / "embeddings").mkdir()
    (root / "models" / "controlnet").mkdir()
    for folder, paper in (("things", "white"), ("marks", "black")):
        (root / "input" / folder).mkdir(parents=True)
        for number, colour in enumerate(("red", "blue")):
            drawn = Image.new("RGB", (64, 64), paper)
            drawn.paste(colour, (8, 8, 40, 40))
            drawn.save(root / "input" / folder / f"{number}.png")
            (root / "input" / folder / f"{number}.txt").write_text(f"a {colour} *")
    return root


@pytest.fixture
def settings(places, tmp_path):
    return settings_of(places, tmp_path)


def stopped_and_resumed(settings, folder, document, at):
    """The outputs of `t` after a run that was cancelled at a step, and another one that went on."""
    stopped(settings, folder, document, at)
    return run(settings, folder, document, "t")["t"].outputs


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_vae_learns_its_images_and_a_stop_changes_no_bit(settings, tmp_path):
    stated = {"steps": 30, "batch_size": 2, "learning_rate": 5e-3, "crop": 32, "validate_every": 30}
    document = graph(
        m=("NewModel", {"architecture": "fine", "seed": 1}),
        i=("LoadImageSetFromFolderNode", {"folder": "things"}),
        t=("TrainVAE", {"vae": "@m:2", "images": "@i", "validation_images": "@i", **stated}),
        w=("TrainVAE", {"vae": "@m:2", "images": "@i", "steps": 1, "batch_size": 2, "learning_rate": 0.0}),
        a=("ApplyTrainedWeights", {"trained": "@t", "model": "@m", "clip": "@m:1", "vae": "@m:2"}),
        e=("VAEEncode", {"pixels": "@i", "vae": "@a:2"}),
        f=("DiffusersSave", {"model": "@a", "clip": "@a:1", "vae": "@a:2"}),
    ).to_json()
    document["w"]["inputs"] |= {"validation_images": ["i", 0], "validate_every": 1, "crop": 32, "weight_decay": 0.0}
    result = run(settings, tmp_path / "c", document, "t", "w", "e", "f", "a")
    (_, after), (_, before) = (result[node].outputs["losses"]["validation"][0] for node in "tw")
    assert after < 0.8 * before
    trained = result["t"].outputs["trained"]
    again = stopped_and_resumed(settings, tmp_path / "cut", document, 7)["trained"]
    assert equal(again["weights"]["vae"], trained["weights"]["vae"]) and again["unit"] == trained["unit"]
    latents = result["a"].outputs["MODEL"].latent.into(result["e"].outputs["LATENT"]["samples"])
    assert abs(float(latents.std()) - 1) < 1e-3, "the model's unit has the latents of the new VAE at unit variance"
    theirs = AutoencoderKL.from_pretrained(result["f"].paths[0] / "vae", local_files_only=True)
    assert theirs.config.scaling_factor == trained["unit"]["scale"]
    assert equal(theirs.state_dict(), trained["weights"]["vae"])


def test_a_decoder_learns_alone_and_an_image_encoder_may_judge(settings, tmp_path):
    from graphflow_nodes.training.autoencoder import ImageSet, Perceptual, VaeLoss, VaeObjective
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    document = graph(
        m=("NewModel", {"architecture": "fine", "seed": 1}),
        i=("LoadImageSetFromFolderNode", {"folder": "things"}),
        t=("TrainVAE", {"vae": "@m:2", "images": "@i", "steps": 2, "batch_size": 2, "parts": "decoder"}),
    ).to_json()
    trained = run(settings, tmp_path / "c", document, "t")["t"].outputs["trained"]
    learnt = {name.partition(".")[0] for name in trained["weights"]["vae"]}
    assert learnt == {"decoder", "post_quant_conv"} and trained["unit"] is None
    config = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1}
    seen = CLIPVisionModelWithProjection(CLIPVisionConfig(**config, image_size=32, patch_size=16, projection_dim=8))
    about = type("About", (), {"image_size": 32, "mean": (0.5,) * 3, "deviation": (0.5,) * 3})
    judge = Perceptual(seen.eval(), about)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    assert float(judge(x, x).max()) == 0 and float(judge(x, x.flip(3)).min()) > 0
    vae = AutoencoderKL(**{name: value for name, value in VAE.items() if name[0] != "_"})
    data = ImageSet(torch.rand(1, 16, 16, 3))
    plain, judged = (
        VaeObjective(vae, data, VaeLoss(perceptual_weight=1.0, factor=2), 0, torch.device("cpu"), one).sum([0], 0)
        for one in (None, judge)
    )
    assert float(judged) > float(plain)


def test_the_loss_of_a_vae_is_the_published_one():
    from graphflow_nodes.training.autoencoder import ImageSet, VaeLoss, VaeObjective
    from graphflow_nodes.training.randomness import normal

    vae = AutoencoderKL(**{name: value for name, value in VAE.items() if name[0] != "_"})
    data = ImageSet(torch.rand(1, 16, 16, 3))
    found = VaeObjective(vae, data, VaeLoss(kl_weight=0.5, factor=2), 3, torch.device("cpu")).sum([0], 4)
    x = data.images.movedim(-1, 1) * 2 - 1
    posterior = vae.encode(x).latent_dist
    z = posterior.mean + posterior.std * normal((4, 8, 8), 3, "latent", "step", 4, 0, 1)
    kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).double().sum()
    wanted = ((x - vae.decode(z).sample).abs().double().sum() + 0.5 * kl) / x.numel()
    assert torch.allclose(found.double(), wanted, rtol=1e-5)


@pytest.mark.parametrize("shape", ["copy", "slim"])
def test_a_control_net_learns_its_hints_and_loads_here_and_in_diffusers(shape, settings, places, tmp_path):
    folder = {"vae": "@m:2", "clip": "@m:1", "folder": "things", "resolution": 64, "bucket_step": 16}
    hints = {"hints": "canny"} if shape == "copy" else {"hints": "folder", "hints_folder": "marks"}
    stated = {"steps": 25, "batch_size": 2, "learning_rate": 1e-2, "shape": shape, "validate_every": 25}
    sampler = {"model": "@m", "positive": "@g", "negative": "@g:1", "latent_image": "@e", "steps": 2, "cfg": 1.0}
    document = graph(
        m=("NewModel", {"architecture": "small", "seed": 1}),
        d=("TrainingFolder", {**folder, **hints}),
        t=("TrainControlNet", {"model": "@m", "training_set": "@d", "validation_set": "@d", **stated}),
        w=("TrainControlNet", {"model": "@m", "training_set": "@d", "validation_set": "@d", "shape": shape}),
        s=("ControlNetSave", {"control": "@t"}),
        n=("ApplyTrainedControlNet", {"control": "@t"}),
        i=("LoadImageSetFromFolderNode", {"folder": "marks"}),
        p=("CLIPTextEncode", {"text": "red", "clip": "@m:1"}),
        g=("ControlNetApplyAdvanced", {"positive": "@p", "negative": "@p", "control_net": "@n", "image": "@i"}),
        e=("EmptyLatentImage", {"width": 64, "height": 64}),
        k=("KSampler", {**sampler, "sampler_name": "euler", "scheduler": "normal"}),
    ).to_json()
    document["w"]["inputs"] |= {"steps": 1, "batch_size": 2, "learning_rate": 0.0, "validate_every": 1}
    result = run(settings, tmp_path / "c", document, "t", "w", "s", "k")
    (_, after), (_, before) = (result[node].outputs["losses"]["validation"][0] for node in "tw")
    assert after < 0.97 * before
    trained = result["t"].outputs["control"]["weights"]
    assert any(".attentions." in name for name in trained) is (shape == "copy")
    (path,) = result["s"].paths
    assert equal(ControlNetModel.from_pretrained(path, local_files_only=True).state_dict(), trained)
    assert equal(load_part(open_control(path, settings), "denoiser", torch.float32).state_dict(), trained)
    (places / "models" / "controlnet" / shape).symlink_to(path)
    document["n"] = {"class_type": "ControlNetLoader", "inputs": {"control_net_name": shape}}
    loaded = run(settings, tmp_path / "d", document, "k")["k"].outputs["LATENT"]["samples"]
    assert torch.equal(loaded, result["k"].outputs["LATENT"]["samples"])
    if shape == "slim":
        again = stopped_and_resumed(settings, tmp_path / "cut", document, 5)["control"]["weights"]
        assert equal(again, trained)


def test_a_new_control_net_changes_nothing_and_begins_as_the_u_net(settings, places):
    from graphflow_nodes.training.control import control_config, new_control
    from graphflow_nodes.training.new_model import new_model

    model = new_model(places / "models" / "checkpoints" / "small", 1, settings).model
    control, unet = new_control(model, control_config(model, "copy"), 0), load_part(model, "denoiser", torch.float32)
    asked = (torch.randn(1, 4, 8, 8), torch.tensor([500.0]), torch.randn(1, 77, 16))
    down, mid = control(*asked, torch.rand(1, 3, 64, 64), return_dict=False)
    assert all(float(one.abs().max()) == 0 for one in (*down, mid))
    own = unet.state_dict()
    shared = [name for name in control.state_dict() if name in own]
    assert len(shared) > 30 and all(torch.equal(control.state_dict()[name], own[name]) for name in shared)


def test_an_embedding_learns_and_a_prompt_reads_its_file(settings, places, tmp_path):
    folder = {"vae": "@m:2", "clip": "@m:1", "folder": "things", "resolution": 64, "bucket_step": 16}
    stated = {"steps": 25, "batch_size": 2, "learning_rate": 5e-2, "vectors": 3, "initial_text": "red heart"}
    document = graph(
        m=("NewModel", {"architecture": "small", "seed": 1}),
        d=("TrainingFolder", folder),
        t=("TrainTextualInversion", {"model": "@m", "clip": "@m:1", "training_set": "@d", "name": "thing", **stated}),
        s=("SaveEmbedding", {"embedding": "@t"}),
        c=("EncodeTrainedEmbedding", {"clip": "@m:1", "embedding": "@t", "text": "a * on white"}),
    ).to_json()
    document["t"]["inputs"] |= {"validation_set": ["d", 0], "validate_every": 5}
    result = run(settings, tmp_path / "c", document, "t", "s", "c")
    validation = result["t"].outputs["losses"]["validation"]
    assert validation[-1][1] < validation[0][1]
    (vectors,) = result["t"].outputs["embedding"]["vectors"].values()
    assert vectors.shape == (3, 16) and bool(vectors.isfinite().all())
    again = stopped_and_resumed(settings, tmp_path / "cut", document, 9)["embedding"]["vectors"]
    assert equal(again, result["t"].outputs["embedding"]["vectors"])
    (path,) = result["s"].paths
    assert load_file(path).keys() == {"thing"}
    (places / "models" / "embeddings" / "mine.safetensors").write_bytes(path.read_bytes())
    save_file({"thing": vectors.flip(0)}, places / "models" / "embeddings" / "other.safetensors")
    texts = graph(
        m=("NewModel", {"architecture": "small", "seed": 1}),
        a=("CLIPTextEncode", {"text": "a embedding:mine on white", "clip": "@m:1"}),
        b=("CLIPTextEncode", {"text": "a embedding:other on white", "clip": "@m:1"}),
    ).to_json()
    found = run(settings, tmp_path / "d", texts, "a", "b")
    first, second = (found[node].outputs["CONDITIONING"][0][0] for node in "ab")
    assert not torch.equal(first, second)
    assert torch.equal(first, result["c"].outputs["CONDITIONING"][0][0]), "the same in the graph of the training"


def test_what_cannot_be_trained_is_refused_with_the_reason(settings, tmp_path):
    folder = {"vae": "@m:2", "clip": "@m:1", "folder": "things", "resolution": 64, "bucket_step": 16}
    base = graph(
        m=("NewModel", {"architecture": "small", "seed": 1}),
        d=("TrainingFolder", folder),
        t=("TrainControlNet", {"model": "@m", "training_set": "@d", "batch_size": 1, "steps": 1}),
    ).to_json()
    assert "training_set: 2 of 2 examples have no hint" in wrong(settings, tmp_path / "a", base)
    base["d"]["inputs"] |= {"hints": "folder", "hints_folder": "nowhere"}
    assert "hints_folder: 'nowhere' has no image for 2 of 2 images" in wrong(settings, tmp_path / "b", base)
    base["d"]["inputs"]["hints"] = "none"
    inversion = {"model": ["m", 0], "clip": ["m", 1], "training_set": ["d", 0], "batch_size": 1, "steps": 1}
    base["t"] = {"class_type": "TrainTextualInversion", "inputs": {**inversion, "name": "two words"}}
    assert "name: 'two words' cannot stand in a prompt" in wrong(settings, tmp_path / "c", base)
    base["t"]["inputs"] |= {"name": "one", "initial_text": " "}
    assert "initial_text: the text that the vectors begin with is empty" in wrong(settings, tmp_path / "d", base)
