"""The `graphflow` command: the shell's way into graphflow.cli, before anything is imported.

Importing takes a few tenths of a second, and an interrupt in the middle of it would end in a traceback or be lost in
the import machinery. Here it ends the process at once; a run then puts its own handler in place (commands/common.py).
"""

import os
import signal
import sys
from types import FrameType

__all__ = ["main"]


def main() -> int:
    signal.signal(signal.SIGINT, _stop)
    from graphflow.cli import main as command

    return command()


def _stop(_: int, __: FrameType | None) -> None:
    os.write(2, b"cancelled\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
