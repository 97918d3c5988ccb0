"""``python -m tvm_tinyml`` is ``tvm-tinyml``."""

import sys

from tvm_tinyml.cli import main

if __name__ == "__main__":
    sys.exit(main())
