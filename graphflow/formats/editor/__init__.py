"""The editor's own format: what people share. Read into the API format (`to_api`), and written from a workflow
(`from_workflow`)."""

from .controls import varying_seeds
from .convert import Converted, to_api
from .document import is_editor_format
from .write import EditorFile, from_workflow

__all__ = ["Converted", "EditorFile", "from_workflow", "is_editor_format", "to_api", "varying_seeds"]
