"""Devices and interruption."""

import enum

from graphflow import Cancelled
from graphflow.spi import current, current_settings

InterruptProcessingException = Cancelled


class CPUState(enum.Enum):
    GPU = 0
    CPU = 1
    MPS = 2


class VRAMState(enum.Enum):
    DISABLED = 0
    NO_VRAM = 1
    LOW_VRAM = 2
    NORMAL_VRAM = 3
    HIGH_VRAM = 4
    SHARED = 5


vram_state = VRAMState.NORMAL_VRAM
XFORMERS_IS_AVAILABLE = False


def __getattr__(name):
    if name == "cpu_state":
        return CPUState.GPU if get_torch_device().type == "cuda" else CPUState.CPU
    if name == "OOM_EXCEPTION":
        import torch

        return getattr(torch, "OutOfMemoryError", MemoryError)
    raise AttributeError(name)


def get_torch_device():
    from graphflow_nodes.devices.device import find_device

    return find_device(current_settings())


def _cpu():
    import torch

    return torch.device("cpu")


vae_device = unet_device = text_encoder_device = get_torch_device
intermediate_device = unet_offload_device = vae_offload_device = text_encoder_offload_device = _cpu


def unet_inital_load_device(parameters=0, dtype=None):
    return get_torch_device()


def get_torch_device_name(device):
    return str(device)


def is_device_cpu(device):
    return getattr(device, "type", None) == "cpu"


def is_device_mps(device):
    return getattr(device, "type", None) == "mps"


def is_device_cuda(device):
    return getattr(device, "type", None) == "cuda"


def cpu_mode():
    return is_device_cpu(get_torch_device())


def is_nvidia():
    return is_device_cuda(get_torch_device())


def should_use_fp16(device=None, model_params=0, prioritize_performance=True, manual_cast=False):
    return not is_device_cpu(device or get_torch_device())


def should_use_bf16(device=None, model_params=0, prioritize_performance=True, manual_cast=False):
    import torch

    return not is_device_cpu(device or get_torch_device()) and torch.cuda.is_bf16_supported()


def xformers_enabled():
    return False


def get_free_memory(dev=None, torch_free_too=False):
    """Bytes."""
    import torch

    dev = dev or get_torch_device()
    if is_device_cuda(dev):
        free = torch.cuda.mem_get_info(dev)[0]
    else:
        import os

        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (free, free) if torch_free_too else free


def get_total_memory(dev=None, torch_total_too=False):
    """Bytes."""
    import torch

    dev = dev or get_torch_device()
    if is_device_cuda(dev):
        total = torch.cuda.mem_get_info(dev)[1]
    else:
        import os

        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (total, total) if torch_total_too else total


def soft_empty_cache(force=False):
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def unload_all_models():
    """The pool of weights decides for itself what stays; the device's own cache is emptied."""
    soft_empty_cache()


cleanup_models = free_memory = load_models_gpu = lambda *_, **__: []


def processing_interrupted():
    call = current()
    return call is not None and call.context.is_cancelled


def throw_exception_if_processing_interrupted():
    call = current()
    if call is not None:
        call.context.check_cancelled()


def interrupt_current_processing(value=True):
    """Stop the run that the calling node is part of."""
    if value and current() is not None:
        raise Cancelled()


def dtype_size(dtype):
    return dtype.itemsize


def module_size(module):
    return sum(tensor.nbytes for tensor in module.state_dict().values())
