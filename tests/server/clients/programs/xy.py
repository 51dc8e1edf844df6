"""comfyui-xy: posts and polls."""

import json
import sys

from comfyui_xy import ComfyUiClient

address, file = sys.argv[1:]
found = ComfyUiClient(f"http://{address}").process_workflow(json.load(open(file)))
print(json.dumps([sorted(vars(item)) for item in found]))
