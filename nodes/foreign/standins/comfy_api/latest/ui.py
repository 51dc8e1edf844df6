"""What output nodes show, and helpers that write the files."""

import random

from graphflow.spi import inner_context


class _UIOutput:
    def as_dict(self):
        raise NotImplementedError


class SavedResult(dict):
    """One file: where it lies, as an editor asks for it."""

    def __init__(self, filename, subfolder, type):
        super().__init__(filename=filename, subfolder=subfolder, type=getattr(type, "value", type))

    @property
    def filename(self):
        return self["filename"]

    @property
    def subfolder(self):
        return self["subfolder"]

    @property
    def type(self):
        return self["type"]


class SavedImages(_UIOutput):
    def __init__(self, results, is_animated=False):
        self.results, self.is_animated = list(results), is_animated

    def as_dict(self):
        found = {"images": self.results}
        return found | {"animated": (True,)} if self.is_animated else found


def to_pillow(image):
    """float [H,W,C] (or [1,H,W,C]) in 0..1 -> a Pillow image."""
    import numpy as np
    from PIL import Image

    if image.ndim == 4:
        image = image[0]
    pixels = (255.0 * image.detach().cpu().float()).clamp(0, 255).numpy().astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


class ImageSaveHelper:
    """Writes images with the workflow embedded."""

    @staticmethod
    def save_images(images, filename_prefix, folder_type, cls=None, compress_level=4):
        from graphflow_nodes.library.images import saved_images

        context = inner_context("save_images")
        settings, kind = context.settings, getattr(folder_type, "value", folder_type)
        folder = {"output": settings.output_dir, "temp": settings.temp_dir}[kind]
        saved = saved_images(images, context, folder, filename_prefix, kind, None, compress_level)
        return [SavedResult(item["filename"], item["subfolder"], item["type"]) for item in saved]

    @staticmethod
    def get_save_images_ui(images, filename_prefix, cls=None, compress_level=4):
        return SavedImages(ImageSaveHelper.save_images(images, filename_prefix, "output", cls, compress_level))


class PreviewImage(_UIOutput):
    def __init__(self, image, animated=False, cls=None, **_):
        self.values = ImageSaveHelper.save_images(image, f"preview_{random.randrange(16**8):08x}", "temp", cls, 1)
        self.animated = animated

    def as_dict(self):
        return {"images": self.values, "animated": (self.animated,)}


class PreviewMask(PreviewImage):
    def __init__(self, mask, animated=False, cls=None, **_):
        if mask.ndim == 2:
            mask = mask[None]
        super().__init__(mask[..., None].expand(-1, -1, -1, 3), animated, cls)


class PreviewText(_UIOutput):
    def __init__(self, value, **_):
        self.value = value

    def as_dict(self):
        return {"text": (self.value,)}
