r"""From a wave to the mel spectrogram that the VAE of LTX-2's sound encodes.

A column is the logarithm of the lengths of 513 frequencies in a window of 1024 samples, gathered in triangles that are
evenly spaced on Slaney's mel scale and have equal areas:

.. math:: M_{bt} = \ln \max \Big( 10^{-5}, \sum_f W_{fb} \, \big| \textstyle\sum_n h_n \, x_{160 t + n - 512} \,
          e^{-2 \pi i f n / 1024} \big| \Big)

As in diffusers' Echo pipeline, which has the same VAE.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["MOST", "mel", "resampled", "weights_for"]

WINDOW = 1024
FLOOR = 1e-5
ZEROS, ROLLOFF = 6, 0.99
"""Of the filter that limits the band: zero crossings to each side, and its edge as a share of half the lower rate."""
MOST = 2**25
"""Weights of a filter, at most: rates of sounds have large common divisors, and those of broken files may have none."""


def mel(wave: Tensor, rate: int, hop: int, bins: int) -> Tensor:
    """Samples float32 [C, T] -> [C, columns, bins]. A wave that is shorter than a window is followed by silence."""
    wave = F.pad(wave, (0, max(0, WINDOW - wave.shape[-1])))
    found = torch.stft(
        wave, WINDOW, hop, window=torch.hann_window(WINDOW), center=True, pad_mode="reflect", return_complex=True
    )
    return (found.abs().transpose(1, 2) @ _triangles(rate, bins)).clamp(min=FLOOR).log()


@cache
def _triangles(rate: int, bins: int) -> Tensor:
    """[frequencies, bins]"""
    from transformers.audio_utils import mel_filter_bank

    found = mel_filter_bank(WINDOW // 2 + 1, bins, 0.0, rate / 2, rate, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(found).float()


def resampled(wave: Tensor, rate: int, to: int) -> Tensor:
    r"""Samples float32 [C, T] at another rate, [C, ceil(T to / rate)].

    Between samples stands a sum of sinc functions, cut off by a squared cosine (J. O. Smith, Digital Audio Resampling):

    .. math:: y(t) = \sum_n x_n \, b \, \mathrm{sinc}(b (t - n)) \cos^2 \frac{\pi b (t - n)}{2 \cdot 6}, \quad
              b = 0.99 \min(1, r' / r)
    """
    if rate == to:
        return wave
    old, new, band, reach = _filter(rate, to)
    # Of each `old` samples `new` others are made, each by weights of its own.
    near = torch.arange(-reach, old + reach, dtype=torch.float64)
    apart = band * (near - torch.arange(new, dtype=torch.float64)[:, None] * old / new)
    weights = band * torch.sinc(apart) * (apart.clamp(-ZEROS, ZEROS) * math.pi / 2 / ZEROS).cos() ** 2
    made = F.conv1d(F.pad(wave, (reach, reach + old))[:, None], weights.to(wave)[:, None], stride=old)
    return made.transpose(1, 2).flatten(1)[:, : -(-wave.shape[-1] * new // old)]


def weights_for(rate: int, to: int) -> int:
    """The weights that `resampled` needs for two rates."""
    old, new, _, reach = _filter(rate, to)
    return new * (old + 2 * reach)


def _filter(rate: int, to: int) -> tuple[int, int, float, int]:
    """Samples before and after, without a common divisor; the band as a share; samples to each side of one."""
    common = math.gcd(rate, to)
    old, new = rate // common, to // common
    band = ROLLOFF * min(1.0, new / old)
    return old, new, band, math.ceil(ZEROS / band)
