"""Every node type of this library: the entry point `graphflow.nodes` names this module, one module a theme.

The theme modules import no torch at the top, so listing, validating and running from cache stay quick.
"""

from . import (
    animated,
    batch,
    compositing,
    conditioning,
    dynamic_prompts,
    filters,
    image_folders,
    images,
    latent_edits,
    latents,
    loaders,
    logic,
    masks,
    outputs,
    patterns,
    primitives,
    resizing,
    sampling,
    saving,
    text,
    tiled,
    transforms,
    upscaling,
    vae,
)

MODULES = (
    loaders, conditioning, latents, latent_edits, sampling, vae, tiled, images, image_folders, transforms, resizing,
    compositing, filters, upscaling, batch, masks, outputs, saving, animated, text, dynamic_prompts, patterns, logic,
    primitives,
)  # fmt: skip
"""Where the registry looks for node types."""
