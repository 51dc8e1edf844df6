"""The further nodes of ComfyUI. Those that the node library has are in `nodes.NODE_CLASS_MAPPINGS`."""
