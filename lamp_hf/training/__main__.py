"""Entry for `accelerate launch -m lamp_hf.training STAGE --config RECIPE …`; the same command as `lamp-hf train`."""

import sys

from lamp_hf.cli import main

if __name__ == "__main__":
    sys.argv = [sys.argv[0], "train", *sys.argv[1:]]
    main()
