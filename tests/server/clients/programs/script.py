"""comfy-script: makes typed Python of every node type that /object_info describes."""

import json
import sys

from comfy_script.runtime import *  # noqa: F403

address, _ = sys.argv[1:]
load(f"http://{address}/")  # noqa: F405
from comfy_script.runtime import nodes  # noqa: E402
from comfy_script.runtime.nodes import *  # noqa: E402, F403

with Workflow(wait=True):  # noqa: F405
    model, clip, vae = CheckpointLoaderSimple("graphflow-tiny")  # noqa: F405
    latent = EmptyLatentImage(64, 64, 1)  # noqa: F405
    positive, negative = CLIPTextEncode("an apple", clip), CLIPTextEncode("", clip)  # noqa: F405
    latent = KSampler(model, 5, 3, 4.0, "euler", "normal", positive, negative, latent, 1)  # noqa: F405
    saved = SaveImage(VAEDecode(latent, vae), "from_script")  # noqa: F405
images = saved.wait()
print(
    json.dumps(
        {"types": len([name for name in dir(nodes) if name[0].isupper()]), "sizes": [image.size for image in images]}
    )
)
