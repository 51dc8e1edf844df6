"""The state of a training as a file: to go on from it later, on another machine, or with another learning rate."""

from __future__ import annotations

from typing import Annotated, Any, BinaryIO

from graphflow import Choice, Context, Settings, Ui, node

from ..devices.environment import output_files
from ..files.prefixes import check_prefix
from ..files.user_files import files_below, files_written, save_numbered
from .training_inputs import StateWire


def _listed(settings: Settings) -> list[str]:
    return files_below(settings.output_dir / "training_states", (".safetensors",))


def _digest(settings: Settings, file: str, **_: Any) -> str:
    return settings.digests.of(settings.output_dir / "training_states" / file)


@node(
    "SaveTrainingState",
    category="training",
    display_name="Save Training State",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def save_training_state(
    state: StateWire, context: Context, filename_prefix: str = "training_states/graphflow"
) -> Ui[None]:
    """Write the state of a training as one safetensors file, for LoadTrainingState: weights, what the optimizer
    remembers, averaged weights, step and losses."""

    def write(file: BinaryIO) -> None:
        from ..training.state_file import state_bytes

        file.write(state_bytes(state, context.metadata()))

    folder = context.settings.output_dir
    return Ui({"models": save_numbered([write], context, folder, filename_prefix, ".safetensors", "output")})


@node("LoadTrainingState", category="training", display_name="Load Training State", version="1", outside=_digest)
def load_training_state(
    settings: Settings, file: Annotated[str, Choice(_listed, "output/training_states")]
) -> StateWire:
    """Read the state of a training, to link to `state` of a trainer of the same kind, with the same model and options
    of size.

    SaveTrainingState writes such files. A training whose loss is no longer a number writes its last good state, too: go
    on from there with a lower learning rate, or with 0 steps to get what it has learnt.
    """
    from ..training.state_file import read_state

    return read_state(settings.output_dir / "training_states" / file)
