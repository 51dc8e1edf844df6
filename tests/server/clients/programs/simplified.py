"""comfy-api-simplified: posts first, opens its websocket afterwards, takes any binary message for a result."""

import json
import sys
from pathlib import Path

from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper

address, file = sys.argv[1:]
api = ComfyApiWrapper(f"http://{address}/")
workflow = ComfyWorkflowWrapper(file)
workflow.set_node_param("KSampler", "steps", 3)
pictures = api.queue_and_wait_images(workflow, "Save Image")
Path("upload.png").write_bytes(next(iter(pictures.values())))
print(
    json.dumps(
        {
            "images": list(pictures),
            "heads": [content[:4].hex() for content in pictures.values()],
            "uploaded": api.upload_image("upload.png"),
        }
    )
)
