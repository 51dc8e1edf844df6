"""`python -m graphflow_server.worker.on_ray`; started by launcher.py, not by hand."""

import sys

from .driver import main

sys.exit(main())
