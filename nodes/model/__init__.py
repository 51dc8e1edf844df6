"""The interfaces of models, that families, patches, samplers and devices share. Values; imports no torch."""
