"""Looks at a latent while a sampler of a pack's own works."""

from graphflow.spi import current

MAX_PREVIEW_RESOLUTION = 512


class LatentPreviewer:
    """A quick look without the VAE."""

    def __init__(self, format):
        self._format = format

    def decode_latent_to_preview(self, x0):
        """A Pillow image of the first latent [B, C, h, w], model unit."""
        import io

        from graphflow_nodes.samplers.preview import preview_jpeg
        from PIL import Image

        return Image.open(io.BytesIO(preview_jpeg(self._format.out(x0), self._format)))

    def decode_latent_to_preview_image(self, preview_format, x0):
        return "JPEG", self.decode_latent_to_preview(x0), MAX_PREVIEW_RESOLUTION


class Latent2RGBPreviewer(LatentPreviewer):
    """The same, by the name that packs derive from."""


def get_previewer(device, latent_format):
    """None where the family knows no quick look."""
    format = latent_format.format
    return LatentPreviewer(format) if format.preview else None


def prepare_callback(model, steps, x0_output_dict=None):
    """callback(step, x0, x, total): reports a step, with a look at the clean latent."""
    previewer = get_previewer(model.load_device, model.model.latent_format)

    def callback(step, x0, x, total_steps):
        if x0_output_dict is not None:
            x0_output_dict["x0"] = x0
        call = current()
        if call is not None:
            look = None
            if previewer is not None:
                from graphflow_nodes.samplers.preview import preview_jpeg

                format = model.model.latent_format.format
                look = lambda: preview_jpeg(format.out(x0), format)  # noqa: E731
            call.context.progress(int(step) + 1, int(total_steps), look)

    return callback
