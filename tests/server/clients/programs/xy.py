"""comfyui-xy: posts and polls."""

import json
import sys
from pathlib import Path

from comfyui_xy import ComfyUiClient

address, file = sys.argv[1:]
found = ComfyUiClient(f"http://{address}").process_workflow(json.loads(Path(file).read_text()))
print(json.dumps([sorted(vars(item)) for item in found]))
