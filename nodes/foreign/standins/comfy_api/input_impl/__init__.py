"""Videos: images in a row, and files."""

from graphflow_nodes.foreign.video_face import VideoFromComponents, VideoFromFile

__all__ = ["VideoFromComponents", "VideoFromFile"]
