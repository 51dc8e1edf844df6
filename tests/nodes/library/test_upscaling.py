"""Images enlarged by networks: in tiles without seams; what is missing is named with what to install."""

from importlib.util import find_spec

import pytest
import torch
from graphflow_nodes.devices import upscale
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.library import upscaling
from graphflow_nodes.model.handles import UpscaleModel, WeightsSource
from torch.nn.functional import conv2d, interpolate

import graphflow as gf

DEVICE = open_device(gf.Settings(device="cpu"))
HANDLE = UpscaleModel(WeightsSource("a.pth", "0", "spandrel"))
HAS_SPANDREL = find_spec("spandrel") is not None and find_spec("torchvision") is not None


class Sharpen:
    """A network of four times the size that looks 2 pixels around each."""

    device = torch.device("cpu")
    largest = None

    def __call__(self, x):
        if self.largest is not None and max(x.shape[-2:]) > self.largest:
            raise torch.OutOfMemoryError("too large")
        kernel = torch.full((3, 1, 5, 5), 1 / 25)
        blurred = conv2d(torch.nn.functional.pad(x, (2, 2, 2, 2), mode="replicate"), kernel, groups=3)
        return interpolate(x + 0.5 * (x - blurred), scale_factor=4, mode="nearest")

    def to(self, device):
        return self

    def eval(self):
        return self


@pytest.fixture
def network(monkeypatch):
    found = Sharpen()
    monkeypatch.setattr(upscale, "_load", lambda _: (found, 4))
    return found


def test_tiles_leave_no_seam(network, monkeypatch):
    images = torch.rand(2, 70, 90, 3)
    whole = network(images.movedim(-1, 1)).clamp(0, 1).movedim(1, -1)
    monkeypatch.setattr(upscale, "TILE", 48)
    monkeypatch.setattr(upscale, "OVERLAP", 16)
    steps = []
    found = upscale.enlarge(DEVICE, HANDLE, images, lambda done, total: steps.append((done, total)))
    assert found.shape == (2, 280, 360, 3) and found.is_contiguous()
    assert ((found - whole) ** 2).mean() < 1e-4, "over 40 dB"
    assert steps == [(n, len(steps)) for n in range(1, len(steps) + 1)] and len(steps) > 8


def test_tiles_are_halved_where_memory_is_short(network, monkeypatch):
    network.largest = 128
    found = upscale.enlarge(DEVICE, HANDLE, torch.rand(1, 140, 300, 3), lambda *_: None)
    assert found.shape == (1, 560, 1200, 3)
    network.largest = 100
    with pytest.raises(torch.OutOfMemoryError):
        upscale.enlarge(DEVICE, HANDLE, torch.rand(1, 140, 300, 3), lambda *_: None)


def test_a_result_that_fits_into_no_memory_is_refused(network):
    with pytest.raises(gf.GraphFlowError, match="40,000 x 40,000 pixels"):
        upscale.enlarge(DEVICE, HANDLE, torch.zeros(1, 1, 1, 3).expand(1, 10_000, 10_000, 3), lambda *_: None)


@pytest.mark.skipif(HAS_SPANDREL, reason="the packages are there")
def test_a_missing_package_is_named_before_the_run(tmp_path):
    (tmp_path / "upscale_models").mkdir()
    (tmp_path / "upscale_models" / "4x.pth").write_bytes(b"x")
    workflow = gf.Workflow.from_json(
        {
            "1": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": "4x.pth"}},
            "2": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8}},
            "3": {"class_type": "ImageUpscaleWithModel", "inputs": {"upscale_model": ["1", 0], "image": ["2", 0]}},
            "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
        }
    )
    settings = gf.Settings(models=(tmp_path,), output_dir=tmp_path)
    with gf.Engine(settings=settings) as engine, pytest.raises(gf.InvalidWorkflow) as error:
        engine.run(workflow)
    assert "which is not installed: pip install 'graphflow-engine[upscale]'" in str(error.value)
    with pytest.raises(gf.GraphFlowError, match="not installed"):
        upscale.enlarge(DEVICE, HANDLE, torch.zeros(1, 8, 8, 3), lambda *_: None)


def esrgan(scale=4, channels=3, features=8, growth=32):
    """The weights of a small ESRGAN (RRDBNet) with one block, in its old layout."""
    state = {}

    def conv(name, given, taken):
        state[f"{name}.weight"] = torch.randn(given, taken, 3, 3) * 0.1
        state[f"{name}.bias"] = torch.zeros(given)

    conv("model.0", features, channels)
    for block in range(1, 4):
        for at in range(1, 6):
            given = features if at == 5 else growth
            conv(f"model.1.sub.0.RDB{block}.conv{at}.0", given, features + growth * (at - 1))
    conv("model.1.sub.1", features, features)
    place = 3
    for _ in range({2: 1, 4: 2}[scale]):
        conv(f"model.{place}", features, features)
        place += 3
    conv(f"model.{place - 1}", features, features)
    conv(f"model.{place + 1}", channels, features)
    return state


@pytest.mark.skipif(not HAS_SPANDREL, reason="spandrel and torchvision are optional")
@pytest.mark.parametrize("scale", [2, 4])
def test_an_esrgan_enlarges_by_its_own_factor(tmp_path, scale):
    (tmp_path / "upscale_models").mkdir()
    torch.save(esrgan(scale), tmp_path / "upscale_models" / "x.pth")
    settings = gf.Settings(models=(tmp_path,), output_dir=tmp_path)
    handle = upscaling.upscale_model_loader(settings, "x.pth")
    found = upscale.enlarge(DEVICE, handle, torch.rand(1, 24, 16, 3), lambda *_: None)
    assert found.shape == (1, 24 * scale, 16 * scale, 3) and found.isfinite().all()


@pytest.mark.skipif(not HAS_SPANDREL, reason="spandrel and torchvision are optional")
def test_weights_of_something_else_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "x.pth")
    source = WeightsSource(str(tmp_path / "x.pth"), "0", "spandrel")
    with pytest.raises(gf.GraphFlowError, match="of no network that spandrel knows"):
        upscale.enlarge(DEVICE, UpscaleModel(source), torch.rand(1, 8, 8, 3), lambda *_: None)
    torch.save(esrgan(growth=4), tmp_path / "x.pth")
    with pytest.raises(gf.GraphFlowError, match="its weights do not fit together"):
        upscale.enlarge(DEVICE, UpscaleModel(source), torch.rand(1, 8, 8, 3), lambda *_: None)


def test_a_handle_is_known_by_the_content_of_its_file():
    same = UpscaleModel(WeightsSource("b.pth", "0", "spandrel"))
    assert same.identity() == HANDLE.identity() != UpscaleModel(WeightsSource("a.pth", "1", "spandrel")).identity()
