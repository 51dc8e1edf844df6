"""Every node type of this library: the entry point `graphflow.nodes` names this module, one module a theme.

The theme modules import no torch at the top, so listing, validating and running from cache stay quick.
"""

from . import (
    batch,
    compositing,
    conditioning,
    custom_sampling,
    dynamic_prompts,
    filters,
    images,
    latent_edits,
    latents,
    loaders,
    logic,
    masks,
    model_patches,
    outputs,
    patterns,
    primitives,
    resizing,
    sampling,
    sigmas,
    text,
    transforms,
    vae,
)

MODULES = (
    loaders, conditioning, latents, latent_edits, sampling, custom_sampling, sigmas, model_patches, vae, images, transforms,
    resizing, compositing, filters, batch, masks, outputs, text, dynamic_prompts, patterns, logic, primitives,
)  # fmt: skip
"""Where the registry looks for node types."""
