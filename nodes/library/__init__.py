"""Every node type of this library: the entry point `graphflow.nodes` names this module, one module a theme.

The theme modules import no torch at the top, so listing, validating and running from cache stay quick.
"""

from . import (
    batch,
    compositing,
    conditioning,
    dynamic_prompts,
    filters,
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
    text,
    tiled,
    transforms,
    vae,
)

MODULES = (
    loaders, conditioning, latents, latent_edits, sampling, vae, tiled, images, transforms, resizing, compositing, filters, batch,
    masks, outputs, text, dynamic_prompts, patterns, logic, primitives,
)  # fmt: skip
"""Where the registry looks for node types."""
