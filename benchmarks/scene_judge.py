r"""What an image of the model of scenes shows, judged from its pixels: one or two things, and the background.

The background is the named colour that is nearest to the median of the image's rim. Then each thing, in several sizes
and at all places that a scene allows, is laid on the colour of the rim, and the sum of squared differences to the image
is compared. With J = image - colour, a template P (thing - colour, weighted by the thing's opacity) differs by

.. math:: \| J - P \|^2 = \| J \|^2 + \| P \|^2 - 2 \, \langle J, P \rangle,

and all places of a template are one correlation, computed by FFT at half the size of the image. The scene is that of
the smallest difference among all things alone and all pairs of a left and a right one. The judge does not know what was
asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from training.scenes import BACKGROUNDS, MIDDLES, SIZE, THINGS, Scene, load_things

__all__ = ["seen"]

RIM = 4
"""Pixels."""
HALF = 2
"""The judge looks at images of half the size: a shift of one pixel is a small difference there."""
SIDES = {1: (86, 90, 94, 98, 102), 2: (50, 53, 56, 59)}
"""Number of things -> sides that are tried."""
REACH = {1: (9, 9), 2: (8, 12)}
"""Number of things -> how far a thing may lie beside its middle, across and down, in pixels."""
EXPLAINED = (0.5, 0.3)
"""Share of what differs from the background that a scene must explain, otherwise the image shows nothing; and the share
where hardly anything is left over, as of a yellow thing on yellow."""
LEFT_OVER = 0.003
"""Mean squared difference (of 1) that counts as hardly anything."""
LEAST_DIFFERENCE = 1e-4
"""Mean squared difference to the background (of 1) below which there is nothing."""


@dataclass(frozen=True, slots=True)
class _Templates:
    """All things in the sizes of a number of things, in the middle of an image."""

    spectra: Tensor
    """complex64 [things x sides, 4, H, W / 2 + 1]: colours times opacity, and opacity; conjugated."""
    squares: Tensor
    """[things x sides, 4, 4]: products of these four, added up over the image."""


@cache
def _templates(count: int) -> _Templates:
    layers = []
    for sprite in load_things().values():
        for side in SIDES[count]:
            canvas = np.zeros((SIZE, SIZE, 4), np.float32)
            first = (SIZE - side) // 2
            small = np.asarray(sprite.resize((side, side), Image.Resampling.LANCZOS), np.float32) / 255
            canvas[first : first + side, first : first + side] = small
            canvas[..., :3] *= canvas[..., 3:]
            layers.append(torch.from_numpy(canvas).movedim(-1, 0))
    found = avg_pool2d(torch.stack(layers), HALF)
    flat = found.flatten(2)
    return _Templates(torch.fft.rfft2(found).conj().resolve_conj(), flat @ flat.mT)


def seen(images: np.ndarray) -> list[Scene]:
    """What each of the images, uint8 [N, 128, 128, 3], shows. A scene without things is an image that shows none."""
    return [_scene(image) for image in images]


@torch.no_grad()
def _scene(image: np.ndarray) -> Scene:
    rim = np.ones((SIZE, SIZE), bool)
    rim[RIM:-RIM, RIM:-RIM] = False
    ground = np.median(image[rim], axis=0)
    background = min(BACKGROUNDS, key=lambda name: float(((ground - np.array(BACKGROUNDS[name])) ** 2).sum()))
    colour = torch.from_numpy(ground.astype(np.float32) / 255)
    pixels = torch.from_numpy(image.astype(np.float32) / 255).movedim(-1, 0)[None]
    difference = avg_pool2d(pixels, HALF)[0] - colour[:, None, None]
    whole = float(difference.square().sum())
    if whole < LEAST_DIFFERENCE * difference.numel():
        return Scene((), background)
    (alone,), pair = (_best(difference, colour, count) for count in (1, 2))
    score, things = min((alone[0], (alone[1],)), (sum(one[0] for one in pair), tuple(one[1] for one in pair)))
    wanted = EXPLAINED[whole + score <= LEFT_OVER * difference.numel()]
    return Scene(things if -score >= wanted * whole else (), background)


def _best(difference: Tensor, colour: Tensor, count: int) -> list[tuple[float, str]]:
    """For each middle of so many things: by how much the best thing there changes the squared difference, and which
    one it is."""
    templates = _templates(count)
    seen = torch.fft.rfft2(torch.cat([difference, -(colour[:, None, None] * difference).sum(0, keepdim=True)]))
    products = torch.fft.irfft2((templates.spectra * seen).sum(1), s=difference.shape[-2:])
    weights = torch.cat([torch.eye(3), -colour[:, None]], 1)  # the template's colours less the background's
    squares = torch.einsum("ca,tab,cb->t", weights, templates.squares, weights)
    across, down = (reach // HALF for reach in REACH[count])
    rows = torch.arange(-down, down + 1)
    found = []
    for middle in MIDDLES[count]:
        columns = torch.arange(-across, across + 1) + (middle - SIZE // 2) // HALF
        best = squares - 2 * products[:, rows][:, :, columns].amax((1, 2))
        number = int(best.argmin())
        found.append((float(best[number]), list(THINGS)[number // len(SIDES[count])]))
    return found
