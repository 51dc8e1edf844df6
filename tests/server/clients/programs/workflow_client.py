"""comfyui-workflow-client: polls the history."""

import json
import sys

from comfyuiclient import ComfyUIClient

address, file = sys.argv[1:]
client = ComfyUIClient(address, file)
client.connect()
client.set_data(key="KSampler", seed=5)
found = client.generate(["Save Image"])
print(json.dumps({key: image.size for key, image in found.items()}))
