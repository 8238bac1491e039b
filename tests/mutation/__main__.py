"""python -m tests.mutation [family ...] [i/n] [--again]: see tests/mutation/run.py"""

import sys

from tests.mutation.run import main

sys.exit(main(sys.argv[1:]))
