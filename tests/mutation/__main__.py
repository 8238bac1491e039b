"""python -m tests.mutation [rules] [engine] [ops] [transforms] [kernels] [optim] [saving]"""

import sys

from tests.mutation.run import main

sys.exit(main(sys.argv[1:]))
