"""``python -m siamese_np``, the same as ``siamese-np``."""

import sys

from siamese_np.cli import main

if __name__ == "__main__":
    sys.exit(main())
