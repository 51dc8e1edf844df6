"""`python -m graphflow_server.worker FD`; started by supervisor.py, not by hand."""

import sys

from .process import main

sys.exit(main(sys.argv[1:]))
