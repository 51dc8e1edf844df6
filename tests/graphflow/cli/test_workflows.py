"""`graphflow workflows` lists what ships, and what it needs."""

import json

from graphflow.cli import main
from graphflow.spi import shipped_names


def test_each_shipped_workflow_is_listed_and_the_built_in_model_is_never_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["workflows", "--json"]) == 0
    listed = {item["name"]: item for item in json.loads(capsys.readouterr().out)}
    assert sorted(listed) == shipped_names()
    assert listed["text_to_image"]["missing"] == [] and listed["text_to_image"]["description"]
    missing = {item["file"]: item["folder"] for item in listed["flux_dev"]["missing"]}
    assert missing["ae.safetensors"] == "models/vae" and len(missing) == 4


def test_a_word_finds_workflows_with_the_files_that_they_lack_and_no_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "vae").mkdir(parents=True)
    (tmp_path / "models" / "vae" / "ae.safetensors").write_bytes(b"here")
    assert main(["workflows", "FLUX_DEV"]) == 0
    out = capsys.readouterr().out
    assert "missing: models/text_encoders/clip_l.safetensors" in out and "ae.safetensors" not in out
    assert "text_to_image" not in out
    assert main(["workflows", "fluxdev"]) == 2
    assert "did you mean 'flux_dev'" in capsys.readouterr().err


def test_an_option_that_is_an_input_is_answered_by_how_inputs_are_set(capsys):
    assert main(["run", "text_to_image", "--seed", "5"]) == 2
    assert "--set KSampler.seed=7" in capsys.readouterr().err
    assert main(["run", "text_to_image", "--device", "gpu"]) == 2
    assert "not a device" in capsys.readouterr().err
