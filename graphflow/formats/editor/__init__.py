"""The editor's own format: what people share. Read into a prompt (`to_prompt`), and written from one (`from_prompt`)."""

from .controls import varying_seeds
from .convert import Converted, to_prompt
from .document import is_editor_format
from .write import Written, from_prompt

__all__ = ["Converted", "Written", "from_prompt", "is_editor_format", "to_prompt", "varying_seeds"]
