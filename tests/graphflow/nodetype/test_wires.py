"""A type checker sees what a wire carries, and refuses the wrong use of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import graphflow as gf

ROOT = Path(__file__).parents[3]

RIGHT = """
import graphflow as gf

@gf.node("Cover", version="1")
def cover(image: gf.Image, mask: gf.Mask, model: gf.ModelHandle) -> gf.Image:
    patched: gf.ModelHandle = model.with_patch(None)
    return image * mask[..., None]

@gf.node("Double", version="1")
def double(latent: gf.Latent) -> gf.Latent:
    return {**latent, "samples": latent["samples"] * 2}
"""
WRONG = """
def wrong(
    latent: gf.Latent, image: gf.Image, model: gf.ModelHandle, clip: gf.ClipHandle, vae: gf.VaeHandle
) -> gf.Image:
    cover(latent, image, model)
    cover(image, image, clip)
    double(image)
    model.shape
    vae.stop_at
    conditioning: gf.Conditioning = image
    return latent
"""
EXPECTED = [
    'Argument 1 to "cover" has incompatible type "dict[str, Any]"; expected "Tensor"',
    'Argument 3 to "cover" has incompatible type "ClipHandle"; expected "ModelHandle"',
    'Argument 1 to "double" has incompatible type "Tensor"; expected "dict[str, Any]"',
    '"ModelHandle" has no attribute "shape"',
    '"VaeHandle" has no attribute "stop_at"',
    'expression has type "Tensor", variable has type "Sequence[Any]"',
    'Incompatible return value type (got "dict[str, Any]", expected "Tensor")',
]


TENSORS = """
[mypy]
strict = true
[mypy-torch.*]
follow_imports = skip
[mypy-torch,torch._tensor,torch._C,torch.types]
follow_imports = silent
"""
"""Of torch, the modules in which a tensor is declared: to read all of it takes half a minute."""


def checked(path: Path) -> list[str]:
    """The errors of mypy in this file. Its cache is kept between runs."""
    config, cache = path.with_name("mypy.ini"), ROOT / ".mypy_cache" / "wires"
    config.write_text(TENSORS)
    command = [sys.executable, "-m", "mypy", f"--config-file={config}", f"--cache-dir={cache}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return [line for line in done.stdout.splitlines() if ": error:" in line and path.name in line]


def test_mypy_accepts_the_right_use_of_wires_and_names_each_wrong_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(RIGHT)
    assert checked(script) == []
    script.write_text(RIGHT + WRONG)
    found = checked(script)
    assert len(found) == len(EXPECTED)
    for line, text in zip(found, EXPECTED, strict=True):
        assert text in line


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (gf.Image, "IMAGE"),
        (gf.Mask, "MASK"),
        (gf.Latent, "LATENT"),
        (gf.Conditioning, "CONDITIONING"),
        (gf.ModelHandle, "MODEL"),
        (gf.ClipHandle, "CLIP"),
        (gf.VaeHandle, "VAE"),
        (gf.AnyType, "*"),
    ],
)
def test_at_run_time_a_node_reads_the_name_of_the_wire(annotation: object, name: str) -> None:
    def look(value):  # type: ignore[no-untyped-def]
        return None

    look.__annotations__ = {"value": annotation, "return": annotation}
    kind = gf.node("Look", version="1")(look).node_type
    assert (kind.inputs["value"].type, kind.outputs[0].type) == (name, name)
