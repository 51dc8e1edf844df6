"""Image encoders."""

from graphflow_nodes.foreign.vision_face import VisionFace as ClipVisionModel
from graphflow_nodes.foreign.vision_face import VisionOutput as Output

__all__ = ["ClipVisionModel", "Output", "load"]


def load(ckpt_path):
    """A CLIP_VISION."""
    from pathlib import Path

    from graphflow_nodes.families.vision import open_vision

    from graphflow.spi import current_settings

    return ClipVisionModel(open_vision(Path(ckpt_path), current_settings()))


def clip_preprocess(image, size=224, mean=None, std=None, crop=True):
    """[B, H, W, C] in 0..1 -> [B, 3, size, size] as CLIP's encoders take it."""
    import torch
    from graphflow_nodes.resampling import resize

    mean = mean or [0.48145466, 0.4578275, 0.40821073]
    std = std or [0.26862954, 0.26130258, 0.27577711]
    sized = resize(image[..., :3].movedim(-1, 1), size, size, "bicubic", "center" if crop else "disabled")
    mean, std = (torch.tensor(one, device=image.device).view(-1, 1, 1) for one in (mean, std))
    return ((255.0 * sized).clamp(0, 255).round() / 255.0 - mean) / std
