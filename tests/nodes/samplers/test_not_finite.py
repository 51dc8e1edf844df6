"""An answer that is not a number: the Problem names the file, its number format, and what to try."""

from dataclasses import replace

import pytest
import torch
from graphflow_nodes.model.handles import WeightsSource
from graphflow_nodes.samplers.not_finite import not_finite
from safetensors.torch import save_file

from tests.nodes.made_up import model

FORMATS = {"plain": None, "fp8": torch.float8_e4m3fn, "int8": torch.int8}


def kept_in(tmp_path, name):
    weights, kind = {"a.weight": torch.ones(32, 32), "a.bias": torch.ones(32)}, FORMATS[name]
    if kind is not None:
        weights["a.weight"] = weights["a.weight"].to(kind)
    if name == "int8":
        weights["a.weight_scale"] = torch.ones(32, 1)
        weights["a.comfy_quant"] = torch.tensor(list(b'{"format": "int8_tensorwise"}'), dtype=torch.uint8)
    path = tmp_path / f"{name}.safetensors"
    save_file(weights, path)
    return replace(model("a"), sources=(("denoiser", WeightsSource(str(path), "digest", "", "")),))


@pytest.mark.parametrize(
    ("name", "dtype", "words"),
    [
        ("plain", torch.float16, ("float16, which holds no number above 65,504", "--dtype bfloat16")),
        ("int8", torch.float16, ("float16, which holds no number above 65,504", "--dtype bfloat16")),
        ("fp8", torch.bfloat16, ("the format of the weights, fp8:", "bf16 or fp16", "--dtype float32")),
        ("int8", torch.float32, ("the format of the weights, int8_tensorwise:", "bf16 or fp16")),
        ("plain", torch.bfloat16, ("--dtype float32", "damaged")),
        ("plain", torch.float32, ("damaged", "a lower cfg")),
    ],
)
def test_the_likely_cause_is_the_narrowest_format(name, dtype, words, tmp_path):
    problem = not_finite(kept_in(tmp_path, name), level=0.5, dtype=dtype)
    assert all(word in problem.hint for word in words), problem.hint
    assert f"{name}.safetensors" in problem.message and str(dtype).removeprefix("torch.") in problem.message


def test_a_format_that_a_loader_states_is_named_and_can_be_left_out(tmp_path):
    problem = not_finite(replace(kept_in(tmp_path, "plain"), dtype="fp8_e4m3fn"), level=0.5, dtype=torch.bfloat16)
    assert "stored as fp8_e4m3fn" in problem.message and "weight_dtype default" in problem.hint


def test_a_file_that_is_gone_leaves_the_format_out(tmp_path):
    problem = not_finite(model("a"), level=0.5, dtype=torch.float32)
    assert problem.message.startswith("the answer of the model at the noise level 0.5")
