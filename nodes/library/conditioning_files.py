"""Conditionings in files: a prompt that is encoded once leads models without its text encoder.

A file is safetensors: the tensor `conditioning` [B, T, D], further tensors as options of their names (those of a list
as `name.0`, `name.1` ...), and plain options as JSON under `conditioning_options` in its metadata.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from graphflow import Choice, Conditioning, Context, GraphFlowError, PassedOn, Problem, Settings, Ui, node

from ..devices.environment import output_files
from ..families.check_files import file_check
from ..files.prefixes import check_prefix
from ..files.user_files import files_written, save_numbered
from .loaders import folders

if TYPE_CHECKING:
    from torch import Tensor

KIND = "embeddings"
STATES, OPTIONS = "conditioning", "conditioning_options"
PLAIN = (bool, int, float, str)


class SavedConditioning(NamedTuple):
    conditioning: Annotated[Conditioning, PassedOn()]


def _names(settings: Settings) -> list[str]:
    return folders(settings).list(KIND)


def _digest(settings: Settings, conditioning_name: str) -> str:
    return settings.digests.of(folders(settings).find(KIND, conditioning_name))


@node(
    "SaveConditioning",
    category="conditioning",
    display_name="Save Conditioning",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def save_conditioning(
    conditioning: Conditioning, context: Context, filename_prefix: str = "conditioning/ComfyUI"
) -> Ui[SavedConditioning]:
    """Write a conditioning into the output folder, for ConditioningLoader, and give it on. It must be a single one."""
    from safetensors.torch import save

    if len(conditioning) != 1:
        raise _refused(
            "several_conditionings",
            f"the conditioning has {len(conditioning)} parts, a file holds one",
            "save each before they are combined",
        )
    ((states, options),) = conditioning
    tensors, plain = _in_file(options)
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in {STATES: states, **tensors}.items()}
    content = save(whole, {**context.metadata(), OPTIONS: json.dumps(plain)})
    folder = context.settings.output_dir
    saved = save_numbered([content], context, folder, filename_prefix, ".safetensors", "output")
    return Ui({"conditionings": saved}, (conditioning,))


@node(
    "ConditioningLoader",
    category="loaders",
    display_name="Load Conditioning",
    version="1",
    outside=_digest,
    check=file_check(KIND, "conditioning", "conditioning_name"),
)
def conditioning_loader(
    settings: Settings, conditioning_name: Annotated[str, Choice(_names, "models/embeddings")]
) -> Conditioning:
    """Read a conditioning of models/embeddings, as SaveConditioning writes it: a prompt without its text encoder."""
    from ..files.header import read_header
    from ..files.tensors import TensorReader

    header = read_header(folders(settings).find(KIND, conditioning_name))
    shape = header.shape(STATES)
    if len(shape) != 3:
        raise _refused(
            "not_conditioning",
            f"{conditioning_name} holds a tensor {STATES!r} of shape {list(shape)}, expected [B, T, D]",
            "write the file with SaveConditioning",
            "conditioning_name",
        )
    with TensorReader(header) as reader:
        tensors = {name: _loaded(reader.get(name)) for name in header.tensors}
    states = tensors.pop(STATES)
    return [(states, {**_plain(header.metadata.get(OPTIONS, "{}"), conditioning_name), **_with_lists(tensors)})]


def _loaded(stored: "Tensor") -> "Tensor":
    return stored.float().clone() if stored.is_floating_point() else stored.clone()


def _in_file(options: Mapping[str, Any]) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """The tensors of options by their names in a file, and the plain options."""
    from torch import Tensor

    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Tensor):
            tensors[name] = value
        elif isinstance(value, list | tuple) and value and all(isinstance(item, Tensor) for item in value):
            tensors |= {f"{name}.{number}": item for number, item in enumerate(value)}
        elif isinstance(value, PLAIN):
            plain[name] = value
        elif value is not None:
            raise _refused(
                "cannot_be_saved",
                f"the option {name!r} of the conditioning cannot be written into a file: it is {type(value).__name__}",
                "save the conditioning before the node that adds it",
            )
    return tensors, plain


def _plain(text: str, file: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        hint = "write the file with SaveConditioning"
        raise _refused("damaged_file", f"{file}: its {OPTIONS} are not a JSON object", hint, "conditioning_name")
    return found


def _with_lists(tensors: "Mapping[str, Tensor]") -> dict[str, Any]:
    """`name.0`, `name.1` ... as a list under `name`, in the order of the numbers."""
    found: dict[str, Any] = {}
    lists: dict[str, dict[int, Tensor]] = {}
    for name, tensor in tensors.items():
        stem, _, number = name.rpartition(".")
        if stem and number.isdecimal():
            lists.setdefault(stem, {})[int(number)] = tensor
        else:
            found[name] = tensor
    return found | {name: [items[number] for number in sorted(items)] for name, items in lists.items()}


def _refused(code: str, message: str, hint: str, input: str = "conditioning") -> GraphFlowError:
    return GraphFlowError([Problem(code, message, input=input, hint=hint)])
