"""Noise for samplers. To sample, call `nodes.common_ksampler`."""

from graphflow_nodes.samplers.table import prepare_noise as _noise

__all__ = ["prepare_noise"]


def prepare_noise(latent_image, seed, noise_inds=None):
    """Noise of the shape of a latent, the same as KSampler begins with."""
    indices = None if noise_inds is None else [int(index) for index in noise_inds]
    return _noise(latent_image.shape, seed, batch_index=indices)
