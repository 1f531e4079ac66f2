"""``python -m happen_nb``: the same as the command ``happen``."""

import sys

from happen_nb._cli import main

sys.exit(main())
