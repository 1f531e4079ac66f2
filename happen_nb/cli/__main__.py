"""``python -m happen_nb.cli``: the same as the command ``happen``."""

import sys

from happen_nb.cli import main

sys.exit(main())
