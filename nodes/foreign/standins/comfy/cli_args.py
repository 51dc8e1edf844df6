"""Options of the program; a pack sees plain defaults."""

from types import SimpleNamespace

args = SimpleNamespace(
    listen="127.0.0.1", port=8188, cpu=False, disable_metadata=False, preview_method=None, verbose="INFO",
    base_directory=None, output_directory=None, input_directory=None, temp_directory=None, user_directory=None,
    front_end_version="", multi_user=False, force_fp16=False, force_fp32=False, gpu_only=False, highvram=False,
    lowvram=False, novram=False, fast=set(), disable_api_nodes=True, disable_all_custom_nodes=False,
)  # fmt: skip
