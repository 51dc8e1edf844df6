"""The formats of workflow files besides the document's own: the editor's, images, descriptions of node types."""

from .reading import read

__all__ = ["read"]
