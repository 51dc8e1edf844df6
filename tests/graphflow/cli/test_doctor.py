"""`graphflow doctor` names what is missing and what to do about it."""

import shutil
import subprocess
import sys
from types import SimpleNamespace

from graphflow.cli import doctor


def lines(*options, cwd):
    done = subprocess.run(
        [sys.executable, "-m", "graphflow", "doctor", *options], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_without_a_models_folder_it_names_the_folder_to_make(tmp_path):
    (advice,) = (line for line in lines(cwd=tmp_path) if "models of your own" in line)
    assert str(tmp_path / "models") in advice and "--models DIR" in advice
    (tmp_path / "models" / "checkpoints").mkdir(parents=True)
    assert not any("models of your own" in line for line in lines(cwd=tmp_path))


def test_a_disk_that_is_nearly_full_is_reported_with_what_makes_room(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1 << 30))
    found = SimpleNamespace(models=[tmp_path / "models"], output_dir=tmp_path / "not" / "there")
    advice = list(doctor._advice(found))
    assert advice[0] == "only 1.0 GB are free for the output folder: graphflow cache prune --to-size 5GB makes room"


def test_an_extra_that_is_not_installed_is_named_with_its_command(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "EXTRAS", {"made-up": ("no_such_module", "made-up things")})
    (tmp_path / "models").mkdir()
    found = SimpleNamespace(models=[tmp_path / "models"], output_dir=tmp_path)
    assert list(doctor._advice(found))[-1] == "for made-up things: pip install 'graphflow-engine[made-up]'"


def test_the_size_of_compiled_code_is_shown_with_what_clears_it(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAPHFLOW_CACHE", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    assert doctor._compiled() == f"{tmp_path / 'compiled'} (empty)"
    (tmp_path / "compiled" / "graphflow").mkdir(parents=True)
    (tmp_path / "compiled" / "graphflow" / "made.code").write_bytes(bytes(3 << 20))
    assert doctor._compiled() == f"{tmp_path / 'compiled'} (3.0 MB; delete the folder to clear it)"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert doctor._compiled() == f"{tmp_path / 'elsewhere'} (empty)"
