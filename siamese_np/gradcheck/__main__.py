"""``python -m siamese_np.gradcheck``, the same as ``siamese-np gradcheck``."""

import sys

from siamese_np.cli import main

if __name__ == "__main__":
    sys.exit(main(["gradcheck", *sys.argv[1:]]))
