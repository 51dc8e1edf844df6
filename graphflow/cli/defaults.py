"""`graphflow.toml`: the options that a user, or a project, always gives.

Read are `graphflow/graphflow.toml` in the user's folder for configurations, then `graphflow.toml` in the folder where
the command runs; the project's file takes precedence, and the command line before both. Keys are the names of options;
a table of a command's name holds what is for that command alone:

    models = ["/data/models"]
    [run]
    dtype = "bfloat16"
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

from ..problem import InvalidWorkflow, Problem, did_you_mean

__all__ = ["apply_defaults", "config_files"]

NAME = "graphflow.toml"


def config_files() -> tuple[Path, ...]:
    """Where options may be written down: the user's file, and that of the project."""
    from platformdirs import user_config_path

    return user_config_path("graphflow") / NAME, Path(NAME)


def apply_defaults(parser: argparse.ArgumentParser, command: str, commands: tuple[str, ...]) -> None:
    """Let the options that the files state be the defaults of the parser. Raises InvalidWorkflow where a file is
    wrong."""
    actions = {
        flag[2:]: action for action in parser._actions for flag in action.option_strings if flag.startswith("--")
    }
    for path in config_files():
        if not path.is_file():
            continue
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidWorkflow([Problem("bad_config", f"{path}: {error}", hint="see docs/install.md")]) from None
        stated = {key: value for key, value in data.items() if not isinstance(value, dict)}
        tables = {key: value for key, value in data.items() if isinstance(value, dict)}
        for name in tables:
            if name not in commands:
                text = f"{path}: there is no command {name!r}"
                raise InvalidWorkflow([Problem("bad_config", text, hint=did_you_mean(name, commands))])
        for key in tables.get(command, {}):
            if key not in actions:
                text = f"{path}: {command} has no option {key!r}"
                raise InvalidWorkflow([Problem("bad_config", text, hint=did_you_mean(key, actions))])
        for key, value in {**stated, **tables.get(command, {})}.items():
            if key in actions:
                parser.set_defaults(**{actions[key].dest: _value(path, key, value, actions[key])})


def _value(path: Path, key: str, value: Any, action: argparse.Action) -> Any:
    """The value as the option would have made it."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise InvalidWorkflow([Problem("bad_config", f"{path}: {key} is {value!r}, expected true or false")])
        return value
    convert: Any = action.type or str
    try:
        if isinstance(value, list):
            return [convert(str(item)) for item in value]
        found = convert(str(value))
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise InvalidWorkflow([Problem("bad_config", f"{path}: {key}: {error}")]) from None
    if action.choices is not None and found not in action.choices:
        choices = ", ".join(map(str, action.choices))
        raise InvalidWorkflow([Problem("bad_config", f"{path}: {key} is {value!r}, expected one of {choices}")])
    return [found] if isinstance(action, argparse._AppendAction) else found
