"""What a text encoder learns from images: the network that predicts latents, and the loss."""

from dataclasses import replace

import pytest
import torch
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.training.examples import Example, TrainingSet
from graphflow_nodes.training.text import TextTower
from graphflow_nodes.training.text_pretraining import CaptionObjective, LatentPredictor


class Tower(TextTower):
    """A text encoder whose answers are given; it notes what it is asked."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def encode(self, captions):
        self.asked.append(list(captions))
        return [Entry(text=self.answers[caption]) for caption in captions]


class Mean(torch.nn.Module):
    """Answers the mean of all tokens everywhere."""

    def forward(self, tokens, height, width):
        return tokens.mean((1, 2))[:, None, None, None].expand(-1, 4, height, width)


def tower():
    return Tower({"one": torch.full((77, 32), 1.0), "two": torch.full((77, 32), 2.0), "long": torch.ones(154, 32)})


def examples(*stated):
    found = [
        Example(str(at), torch.full((4, 6, 6), value), Entry(), 1, text) for at, (text, value) in enumerate(stated)
    ]
    return TrainingSet(tuple(found), None)


def test_the_loss_is_the_squared_error_to_the_latent_of_each_image():
    data = examples(("one", 1.0), ("two", 5.0), ("one", 4.0))
    asked = tower()
    objective = CaptionObjective(asked, Mean(), data, torch.device("cpu"))
    assert float(objective.sum([0, 1, 2], 0)) == pytest.approx(0.0 + 9.0 + 9.0)
    assert asked.asked == [["one", "two"]], "a caption that occurs twice in a batch is encoded once"
    assert objective.fixed(data) == pytest.approx(18.0 / 3)


def test_captions_of_several_lengths_share_a_batch():
    data = examples(("one", 1.0), ("long", 3.0))
    objective = CaptionObjective(tower(), Mean(), data, torch.device("cpu"))
    assert float(objective.sum([0, 1], 0)) == pytest.approx(4.0)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 1), (16, 4)])
def test_latents_of_any_size_are_predicted(size):
    reader = LatentPredictor(32, 4, seed=1)
    assert reader(torch.randn(2, 77, 32), *size).shape == (2, 4, *size)


def test_the_network_is_a_function_of_its_seed_and_tells_places_apart():
    first, again, other = (LatentPredictor(32, 4, seed) for seed in (1, 1, 2))
    tokens = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first(tokens, 8, 8), again(tokens, 8, 8))
    assert not torch.equal(first(tokens, 8, 8), other(tokens, 8, 8))
    cells = first(tokens, 8, 8).unfold(2, 2, 2).unfold(3, 2, 2).flatten(2, 3).transpose(1, 2).flatten(2)[0]
    distances = torch.cdist(cells, cells) + 9 * torch.eye(len(cells))
    assert float(distances.detach().min()) > 1e-3


def test_what_a_latent_shows_by_chance_is_answered_by_its_mean():
    """The least loss is that of the mean over the images of a caption."""
    values = {"one": (0.0, 1.0), "two": (3.0, 5.0)}
    data = examples(*((text, value) for text in values for value in values[text]))
    drawn = torch.Generator().manual_seed(3)
    words = {text: torch.nn.Parameter(torch.randn(5, 32, generator=drawn)) for text in values}
    reader = LatentPredictor(32, 4, seed=1)
    optimiser = torch.optim.Adam([*words.values(), *reader.parameters()], lr=3e-3)
    objective = CaptionObjective(Tower(words), reader, data, torch.device("cpu"))
    for step in range(300):
        optimiser.zero_grad()
        objective.sum(range(4), step).backward()
        optimiser.step()
    for text, shown in values.items():
        answer = reader(words[text][None], 6, 6)
        assert answer.sub(sum(shown) / 2).abs().max() < 0.05
    assert objective.fixed(data) == pytest.approx((0.25 + 0.25 + 1 + 1) / 4, abs=0.01)
    assert objective.fixed(replace(data, examples=data.examples[:2])) == pytest.approx(0.25, abs=0.01)
