"""`python -m graphflow.cli`."""

import sys

from . import main

sys.exit(main())
