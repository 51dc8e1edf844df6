"""What a model is: the interfaces that families, patches, samplers and devices share. Values; imports no torch."""
