"""Lets the tests of this folder import the objects they show."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
