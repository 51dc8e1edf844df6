"""The editor's own format: what people share. Read into a prompt (`to_prompt`), and written from one (`from_prompt`)."""

from .convert import Converted, to_prompt
from .document import is_editor_format

__all__ = ["Converted", "is_editor_format", "to_prompt"]
