"""Model folders: each model is listed once, by ComfyUI's folder names, and what is not a model is not listed."""

import json
import shutil
from pathlib import Path

import pytest
from graphflow_nodes.files.folders import BUILTIN, ModelFolders

import graphflow as gf

BUILTIN_LORAS = [
    "graphflow-scenes-sunset.safetensors",
    "graphflow-tiny-ground.safetensors",
    "graphflow-tiny-sunset.safetensors",
]
"""The LoRAs that ship with the built-in model."""


def put(root, *names):
    for name in names:
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("diffusion_models", "diffusion_models", "unet"),
        ("text_encoders", "text_encoders", "clip"),
        ("controlnet", "controlnet", "t2i_adapter"),
    ],
)
def test_old_and_new_names_of_a_folder_are_one(tmp_path, kind, first, second):
    put(tmp_path, f"{first}/a.safetensors", f"{second}/b.safetensors", f"{second}/a.safetensors")
    folders = ModelFolders([tmp_path])
    own = [name for name in folders.list(kind) if not name.startswith("graphflow-")]
    assert own == ["a.safetensors", "b.safetensors"]
    assert folders.find(kind, "a.safetensors") == tmp_path / first / "a.safetensors"
    assert folders.find(kind, "b.safetensors") == tmp_path / second / "b.safetensors"


@pytest.mark.parametrize(
    "kind",
    ["loras", "embeddings", "clip_vision", "style_models", "upscale_models", "model_patches", "latent_upscale_models"],
)
def test_every_kind_has_its_folder(tmp_path, kind):
    put(tmp_path, f"{kind}/sub/a.gguf", f"{kind}/b.PTH", f"{kind}/notes.txt")
    found = [name for name in ModelFolders([tmp_path]).list(kind) if not name.startswith("graphflow-")]
    assert found == ["b.PTH", "sub/a.gguf"]


def test_hidden_files_and_folders_are_not_models(tmp_path):
    put(tmp_path, "vae/._a.safetensors", "vae/.b.safetensors", "vae/.cache/c.safetensors", "vae/d.safetensors")
    assert ModelFolders([tmp_path]).list("vae") == ["d.safetensors"]


def test_a_folder_is_one_model_only_if_it_is_a_model(tmp_path):
    put(tmp_path, "loras/mine/config.json", "loras/mine/a.safetensors.txt", "loras/trained/b.safetensors")
    put(tmp_path, "vae/flux/config.json", "vae/flux/diffusion_pytorch_model.safetensors")
    shutil.copytree(BUILTIN / "graphflow-tiny", tmp_path / "diffusers" / "tiny")
    folders = ModelFolders([tmp_path])
    assert folders.list("loras") == [*BUILTIN_LORAS, "trained/b.safetensors"]
    assert folders.list("vae") == ["flux"]
    assert folders.list("checkpoints") == ["graphflow-scenes", "graphflow-tiny", "tiny"]


def test_a_modular_pipeline_is_one_model_and_only_pipelines_are_of_the_kind_diffusers(tmp_path):
    part = tmp_path / "diffusers" / "part"
    shutil.copytree(BUILTIN / "graphflow-tiny" / "unet", part)
    for name in ("plain", "modular"):
        shutil.copytree(BUILTIN / "graphflow-tiny", tmp_path / "diffusers" / "sub" / name)
    place = tmp_path / "diffusers" / "sub" / "modular"
    (place / "model_index.json").rename(place / "modular_model_index.json")
    put(tmp_path, "diffusers/a.safetensors")
    folders = ModelFolders([tmp_path])
    assert folders.list("diffusers") == ["sub/modular", "sub/plain"]
    whole = [name for name in folders.list("checkpoints") if not name.startswith("graphflow-")]
    assert whole == ["a.safetensors", "part", "sub/modular", "sub/plain"]
    assert folders.find("diffusers", "sub/modular") == place
    with pytest.raises(gf.GraphFlowError, match="there is no diffusers file 'part'"):
        folders.find("diffusers", "part")


@pytest.mark.parametrize("place", ["models", "."])
def test_folders_elsewhere_are_found_as_comfyui_users_state_them(tmp_path, place, monkeypatch):
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "big"))
    (tmp_path / "models").mkdir()
    (tmp_path / place / "extra_model_paths.yaml").write_text(
        "# my disks\n"
        "comfyui:\n"
        f"    base_path: {tmp_path}/stable  # fast\n"
        "    is_default: true\n"
        "    checkpoints: models/checkpoints/\n"
        "    clip: |\n"
        "        models/clip\n"
        "        models/text_encoders\n"
        "    loras:\n"
        "        - models/Lora\n"
        "\n"
        "other:\n"
        "    vae: $ELSEWHERE/vae\n"
    )
    put(
        tmp_path,
        "stable/models/checkpoints/a.safetensors",
        "stable/models/clip/b.safetensors",
        "stable/models/text_encoders/c.safetensors",
        "stable/models/Lora/d.safetensors",
        "big/vae/e.safetensors",
    )
    folders = ModelFolders([tmp_path / "models"])
    assert folders.list("checkpoints") == ["a.safetensors", "graphflow-scenes", "graphflow-tiny"]
    assert folders.list("text_encoders") == ["b.safetensors", "c.safetensors"]
    assert folders.list("loras") == ["d.safetensors", *BUILTIN_LORAS]
    assert folders.find("vae", "e.safetensors") == tmp_path / "big/vae/e.safetensors"


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"just words", json.dumps({"a": [1]}).encode(), b"a:\n  b\n c: |\n"]
)
def test_what_is_not_such_a_file_is_passed_over(tmp_path, content):
    (tmp_path / "extra_model_paths.yaml").write_bytes(content)
    assert ModelFolders([tmp_path]).list("vae") == []


def test_a_name_that_is_not_listed_cannot_be_named(tmp_path):
    put(tmp_path, "vae/a.safetensors")
    for name in ("../vae/a.safetensors", str(tmp_path / "vae/a.safetensors"), "b.safetensors"):
        with pytest.raises(gf.GraphFlowError, match="there is no vae file"):
            ModelFolders([tmp_path]).find("vae", name)
