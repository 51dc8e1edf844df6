"""`graphflow completion bash|zsh|fish`"""

from __future__ import annotations

import argparse
from importlib.metadata import entry_points

from .codes import DONE

__all__ = ["configure", "run"]

BASH = """_graphflow() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}"
    if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "{commands}" -- "$word"))
    elif [ "$COMP_CWORD" -eq 2 ]; then COMPREPLY=($(compgen -W "{workflows}" -- "$word") $(compgen -f -- "$word"))
    else COMPREPLY=($(compgen -f -- "$word")); fi
}}
complete -o filenames -F _graphflow graphflow
"""
ZSH = """#compdef graphflow
autoload -U +X bashcompinit && bashcompinit
"""
FISH = """complete -c graphflow -n __fish_use_subcommand -f -a "{commands}"
complete -c graphflow -n "not __fish_use_subcommand" -a "{workflows}"
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = 'Print completions for a shell; bash: eval "$(graphflow completion bash)" in ~/.bashrc.'
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def run(options: argparse.Namespace) -> int:
    from ..files.shipped import shipped_names
    from . import COMMANDS

    commands = " ".join(sorted({*COMMANDS, *(point.name for point in entry_points(group="graphflow.commands"))}))
    text = {"bash": BASH, "zsh": ZSH + BASH, "fish": FISH}[options.shell]
    print(text.format(commands=commands, workflows=" ".join(shipped_names())), end="")
    return DONE
