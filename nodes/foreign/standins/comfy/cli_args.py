"""Options of the program: plain defaults, but for what the run decides."""

from types import SimpleNamespace

from graphflow.spi import current_settings


class _Options(SimpleNamespace):
    @property
    def disable_metadata(self):
        return not current_settings().metadata


args = _Options(
    listen="127.0.0.1",
    port=8188,
    cpu=False,
    preview_method=None,
    verbose="INFO",
    base_directory=None,
    output_directory=None,
    input_directory=None,
    temp_directory=None,
    user_directory=None,
    front_end_version="",
    multi_user=False,
    force_fp16=False,
    force_fp32=False,
    gpu_only=False,
    highvram=False,
    lowvram=False,
    novram=False,
    fast=set(),
    disable_api_nodes=True,
    disable_all_custom_nodes=False,
)
