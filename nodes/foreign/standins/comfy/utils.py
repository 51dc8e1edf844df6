"""Progress, resampling, files of tensors."""

import math

from graphflow_nodes.resampling import resize

from graphflow.spi import current

PROGRESS_BAR_ENABLED = True
PROGRESS_BAR_HOOK = None


class ProgressBar:
    """Tells the run how far the node is; raises if the run is to stop."""

    def __init__(self, total, node_id=None):
        self.total, self.current, self.node_id = total, 0, node_id

    def update_absolute(self, value, total=None, preview=None):
        if total is not None:
            self.total = total
        self.current = min(value, self.total)
        call = current()
        if call is not None:
            call.context.progress(int(self.current), int(self.total))
            if preview is not None:
                show_preview(call.context, preview)

    def update(self, value):
        self.update_absolute(self.current + value)


def show_preview(context, preview):
    """(format, Pillow image, largest side): a PNG in full size is a result of the node, anything else a look at its
    work."""
    kind, image, largest = preview
    kind = "PNG" if str(kind).upper() == "PNG" else "JPEG"
    image = image.copy()  # the pack may go on with it

    def make():
        import io

        shown = image if kind == "PNG" else image.convert("RGB")
        if largest:
            shown.thumbnail((largest, largest))
        file = io.BytesIO()
        shown.save(file, format=kind, **({"compress_level": 1} if kind == "PNG" else {"quality": 80}))
        return file.getvalue()

    context.show(make, f"image/{kind.lower()}", is_result=kind == "PNG" and not largest)


def set_progress_bar_enabled(enabled):
    global PROGRESS_BAR_ENABLED
    PROGRESS_BAR_ENABLED = enabled


def set_progress_bar_global_hook(function):
    global PROGRESS_BAR_HOOK
    PROGRESS_BAR_HOOK = function


def common_upscale(samples, width, height, upscale_method, crop):
    """Resample [B,C,H,W]; `crop` is "disabled" or "center"."""
    return resize(samples, int(width), int(height), upscale_method, crop)


def lanczos(samples, width, height):
    return resize(samples, int(width), int(height), "lanczos", "disabled")


def bislerp(samples, width, height):
    return resize(samples, int(width), int(height), "bislerp", "disabled")


def repeat_to_batch_size(tensor, batch_size, dim=0):
    """Repeat from the start, or cut, to `batch_size` along `dim`."""
    have = tensor.shape[dim]
    if have > batch_size:
        return tensor.narrow(dim, 0, batch_size)
    if have < batch_size:
        counts = [1] * tensor.dim()
        counts[dim] = math.ceil(batch_size / have)
        return tensor.repeat(counts).narrow(dim, 0, batch_size)
    return tensor


def resize_to_batch_size(tensor, batch_size):
    """Stretch or thin out a batch evenly."""
    import torch

    have = tensor.shape[0]
    if have == batch_size:
        return tensor
    if batch_size <= 1:
        return tensor[:batch_size]
    places = torch.linspace(0, have - 1, batch_size).round().long()
    return tensor[places]


def load_torch_file(ckpt, safe_load=False, device=None, return_metadata=False):
    """Tensors of a safetensors file, or of a checkpoint that holds nothing but tensors: nothing is unpickled."""
    import torch
    from safetensors import safe_open

    place = str(device) if device is not None else "cpu"
    if str(ckpt).lower().endswith((".safetensors", ".sft")):
        with safe_open(str(ckpt), framework="pt", device=place) as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            metadata = file.metadata()
    else:
        tensors, metadata = torch.load(ckpt, map_location=place, weights_only=True), None
        tensors = tensors.get("state_dict", tensors) if isinstance(tensors, dict) else tensors
    if isinstance(tensors, dict):
        from pathlib import Path

        from graphflow_nodes.foreign.loras import StoredTensors

        tensors = StoredTensors(tensors, Path(ckpt))
    return (tensors, metadata) if return_metadata else tensors


def save_torch_file(sd, ckpt, metadata=None):
    from safetensors.torch import save_file

    save_file(sd, ckpt, metadata=metadata)


def calculate_parameters(sd, prefix=""):
    return sum(tensor.nelement() for key, tensor in sd.items() if key.startswith(prefix))


def weight_dtype(sd, prefix=""):
    from collections import Counter

    counts = Counter()
    for key, tensor in sd.items():
        if key.startswith(prefix):
            counts[tensor.dtype] += tensor.nelement()
    return counts.most_common(1)[0][0] if counts else None


def state_dict_prefix_replace(state_dict, replace_prefix, filter_keys=False):
    found = {} if filter_keys else state_dict
    for old, new in replace_prefix.items():
        for key in [key for key in state_dict if key.startswith(old)]:
            found[new + key[len(old) :]] = state_dict.pop(key)
    return found


def get_tiled_scale_steps(width, height, tile_x, tile_y, overlap):
    return math.ceil(height / (tile_y - overlap)) * math.ceil(width / (tile_x - overlap))


def tiled_scale(
    samples, function, tile_x=64, tile_y=64, overlap=8, upscale_amount=4, out_channels=3, output_device="cpu", pbar=None
):
    """Apply `function` to overlapping tiles of [B,C,H,W] and blend their seams linearly."""
    import torch

    count, _, high, wide = samples.shape
    out = torch.zeros(
        count, out_channels, round(high * upscale_amount), round(wide * upscale_amount), device=output_device
    )
    for index in range(count):
        total = torch.zeros_like(out[index : index + 1])
        weight = torch.zeros_like(total[:, :1])
        for y in _starts(high, tile_y, overlap):
            for x in _starts(wide, tile_x, overlap):
                tile = function(samples[index : index + 1, :, y : y + tile_y, x : x + tile_x]).to(output_device)
                mask = _feather(tile.shape[-2], tile.shape[-1], round(overlap * upscale_amount), output_device)
                top, left = round(y * upscale_amount), round(x * upscale_amount)
                area = (..., slice(top, top + tile.shape[-2]), slice(left, left + tile.shape[-1]))
                total[area] += tile * mask
                weight[area] += mask
                if pbar is not None:
                    pbar.update(1)
        out[index : index + 1] = total / weight
    return out


def _starts(length, tile, overlap):
    if length <= tile:
        return [0]
    step = max(1, tile - overlap)
    return [*range(0, length - tile, step), length - tile]


def _feather(high, wide, width, device):
    import torch

    def ramp(length):
        at = torch.arange(length, device=device, dtype=torch.float32)
        edge = torch.minimum(at + 1, length - at)
        return (edge / max(1, min(width, length // 2))).clamp(max=1.0)

    return (ramp(high)[:, None] * ramp(wide)[None, :])[None, None]


def get_attr(obj, attr):
    """The attribute at a path with dots."""
    for name in attr.split("."):
        obj = getattr(obj, name)
    return obj


def set_attr(obj, attr, value):
    """Another value at a path with dots; the one that was there is given back."""
    *path, name = attr.split(".")
    for part in path:
        obj = getattr(obj, part)
    before = getattr(obj, name)
    setattr(obj, name, value)
    return before


def reshape_mask(input_mask, output_shape):
    """A mask of any size -> [B, channels, h, w] of `output_shape`."""
    from torch.nn.functional import interpolate

    mask = input_mask.reshape(-1, 1, *input_mask.shape[-2:]).float()
    mask = interpolate(mask, tuple(output_shape[-2:]), mode="bilinear")
    return repeat_to_batch_size(mask, output_shape[0]).expand(-1, output_shape[1], -1, -1)


def copy_to_param(obj, attr, value):
    get_attr(obj, attr).data.copy_(value)


def safetensors_header(safetensors_path, max_size=100 * 1024 * 1024):
    """The bytes of a file's header; None where it is larger than `max_size`."""
    with open(safetensors_path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return file.read(size) if size <= max_size else None


def string_to_seed(data):
    """A number for a text: its CRC-32."""
    import zlib

    return zlib.crc32(data if isinstance(data, bytes) else str(data).encode())


def unet_to_diffusers(unet_config):
    raise NotImplementedError("the names of weights of a U-Net are those of checkpoints here; see docs/packs.md")


def tiled_scale_multidim(
    samples, function, tile=(64, 64), overlap=8, upscale_amount=4, out_channels=3, output_device="cpu", pbar=None, **_
):
    return tiled_scale(
        samples,
        function,
        tile_x=tile[-1],
        tile_y=tile[-2],
        overlap=overlap,
        upscale_amount=upscale_amount,
        out_channels=out_channels,
        output_device=output_device,
        pbar=pbar,
    )
