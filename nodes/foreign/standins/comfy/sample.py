"""Noise for samplers, and whole runs."""

from graphflow_nodes.samplers.table import prepare_noise as _noise

__all__ = ["fix_empty_latent_channels", "prepare_mask", "prepare_noise"]


def prepare_noise(latent_image, seed, noise_inds=None):
    """Noise of the shape of a latent, the same as KSampler begins with."""
    indices = None if noise_inds is None else [int(index) for index in noise_inds]
    return _noise(latent_image.shape, seed, batch_index=indices)


def fix_empty_latent_channels(model, latent_image, downscale_ratio_spacial=None, downscale_ratio_temporal=None):
    """An empty latent in the channels and cells of the model; any other as it is."""
    from graphflow_nodes.samplers.start import fitted

    if latent_image.any():
        return latent_image
    notes = {
        "downscale_ratio_spacial": downscale_ratio_spacial,
        "downscale_ratio_temporal": downscale_ratio_temporal,
    }
    return fitted({"samples": latent_image, **notes}, model.settled())


def prepare_mask(noise_mask, shape, device):
    """[N, 1, H, W] of any size -> [B, 1, h, w]"""
    from torch.nn.functional import interpolate

    mask = noise_mask.reshape(-1, 1, *noise_mask.shape[-2:]).float()
    mask = interpolate(mask, shape[-2:], mode="bilinear")
    return mask.repeat(-(-shape[0] // len(mask)), 1, 1, 1)[: shape[0]].to(device)


def __getattr__(name):
    if name in ("sample", "sample_custom"):
        from graphflow_nodes.foreign import sample

        return getattr(sample, name)
    raise AttributeError(f"module 'comfy.sample' has no attribute {name!r}", name=name)
