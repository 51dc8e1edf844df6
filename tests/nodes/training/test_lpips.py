"""LPIPS by a network of the user: the formula of the paper, both layouts of files, and what is refused before a run."""

import pytest
import torch
from graphflow_nodes.training.lpips import SCALE, SHIFT, open_lpips
from graphflow_nodes.training.lpips_file import BLOCKS, PLACES
from safetensors.torch import save_file

import graphflow as gf
from tests.graphs import graph
from tests.nodes.library.training_runs import equal, networks_in, run, settings_of, stopped_and_resumed, wrong

WIDTHS = (3, 4, 4, 6, 8)
"""Of the blocks; VGG16 has 64, 128, 256, 512 and 512."""


def vgg(prefix=""):
    """Small random weights in the names of torchvision, with the classifier that its files hold."""
    torch.manual_seed(0)
    found, before = {}, 3
    for width, places in zip(WIDTHS, PLACES, strict=True):
        for place in places:
            found[f"{prefix}features.{place}.weight"] = torch.randn(width, before, 3, 3) / before
            found[f"{prefix}features.{place}.bias"] = torch.randn(width) / 4
            before = width
    return {**found, "classifier.0.weight": torch.zeros(2, 2)}


def lpips(prefix=""):
    """The state of LPIPS: the same network, cut into slices, and the learnt weights."""
    slices = {f"features.{place}": f"net.slice{at + 1}.{place}" for at, places in enumerate(PLACES) for place in places}
    found = {
        f"{prefix}{slices[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": weight
        for name, weight in vgg().items()
        if name.startswith("features")
    }
    found |= {f"{prefix}lin{at}.model.1.weight": torch.rand(1, width, 1, 1) for at, width in enumerate(WIDTHS)}
    return found | {f"{prefix}scaling_layer.shift": torch.tensor(SHIFT)[None, :, None, None]}


def by_modules(weights, x, y, learnt):
    """The distance by torch's own modules, in the order of torchvision's `features`."""
    layers, before, seen = [], 3, []
    for width, count in zip(WIDTHS, BLOCKS, strict=True):
        for _ in range(count):
            layers += [torch.nn.Conv2d(before, width, 3, padding=1), torch.nn.ReLU()]
            before = width
        seen.append(len(layers) - 1)
        layers.append(torch.nn.MaxPool2d(2))
    network = torch.nn.Sequential(*layers)
    network.load_state_dict({name[9:]: one for name, one in weights.items() if name.startswith("features.")})
    total, scaled = (
        0,
        [(one - torch.tensor(SHIFT)[:, None, None]) / torch.tensor(SCALE)[:, None, None] for one in (x, y)],
    )
    for at, place in enumerate(seen):
        a, b = (torch.nn.functional.normalize(network[: place + 1](one), dim=1) for one in scaled)
        weight = learnt[f"lin{at}.model.1.weight"][0] if learnt else 1.0
        total = total + ((a - b) ** 2 * weight).sum(1).mean((1, 2))
    return total


@pytest.mark.parametrize("prefix", ["", "loss.perceptual_loss."])
@pytest.mark.parametrize("kind", [vgg, lpips])
def test_the_distance_is_that_of_the_paper_in_either_layout(kind, prefix, tmp_path):
    weights = kind(prefix)
    save_file(weights, tmp_path / "seen.safetensors")
    judge = open_lpips(tmp_path / "seen.safetensors", torch.device("cpu"))
    x, y = torch.rand(2, 2, 3, 32, 48) * 2 - 1
    learnt = {name.removeprefix(prefix): one for name, one in weights.items()} if kind is lpips else {}
    assert torch.allclose(judge(x, y), by_modules(vgg(), x, y, learnt), rtol=1e-4)
    assert float(judge(x, x).max()) == 0
    y.requires_grad_()
    judge(x, y).sum().backward()
    assert bool(y.grad.isfinite().all()) and float(y.grad.abs().max()) > 0


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = networks_in(tmp_path_factory.mktemp("lpips"))
    folder = root / "models" / "perceptual"
    folder.mkdir()
    torch.save(lpips(), folder / "vgg.pth")
    save_file({name: one for name, one in lpips().items() if "lin" in name}, folder / "lines.safetensors")
    save_file({"a": torch.zeros(1)}, folder / "other.safetensors")
    save_file({**vgg(), "features.5.weight": torch.zeros(4, 9, 3, 3)}, folder / "shape.safetensors")
    return root


def wanted(**options):
    stated = {"steps": 3, "batch_size": 2, "learning_rate": 1e-3, "perceptual_name": "vgg.pth", **options}
    return graph(
        m=("NewModel", {"architecture": "fine", "seed": 1}),
        i=("LoadImageSetFromFolderNode", {"folder": "things"}),
        t=("TrainVAE", {"vae": "@m:2", "images": "@i", **stated}),
    )


def test_a_vae_learns_by_it_and_a_stop_changes_no_bit(places, tmp_path):
    settings = settings_of(places, tmp_path)
    judged = run(settings, tmp_path / "a", wanted(), "t")["t"].outputs
    plain = run(settings, tmp_path / "b", wanted(perceptual_name="none"), "t")["t"].outputs
    assert judged["losses"]["training"][0] > plain["losses"]["training"][0]
    again = stopped_and_resumed(settings, tmp_path / "c", wanted().to_json(), 1)
    assert equal(again["trained"]["weights"]["vae"], judged["trained"]["weights"]["vae"])


def test_what_is_not_such_a_network_is_named_before_the_run(places, tmp_path):
    settings = settings_of(places, tmp_path)
    expected = {
        "lines": "lines.safetensors holds the learnt weights of LPIPS alone, without the network",
        "other": "other.safetensors holds no VGG16",
        "shape": "features.5.weight is [4, 9, 3, 3], expected [out, 3, 3, 3]",
    }
    with gf.Engine(settings=settings) as engine:
        for name, words in expected.items():
            (problem,) = engine.check(wanted(perceptual_name=f"{name}.safetensors"), ["t"]).problems
            assert (problem.node, problem.input) == ("t", "perceptual_name") and words in problem.message
            assert "models/perceptual" in problem.message
        document = wanted().to_json()
        document["v"] = {"class_type": "CLIPVisionLoader", "inputs": {"clip_name": "graphflow-tiny-image.safetensors"}}
        document["t"]["inputs"]["clip_vision"] = ["v", 0]
        (problem,) = engine.check(gf.Workflow.from_json(document), ["t"]).problems
        assert problem.input == "perceptual_name" and "one of the two" in problem.message
    assert "crop: images of 8 x 8 pixels are too small for LPIPS" in wrong(settings, tmp_path / "d", wanted(crop=8))
