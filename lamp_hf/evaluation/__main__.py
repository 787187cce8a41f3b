"""Entry for `accelerate launch -m lamp_hf.evaluation TASK MODEL …`; the same command as `lamp-hf evaluate`."""

import sys

from lamp_hf.cli import main

if __name__ == "__main__":
    sys.argv = [sys.argv[0], "evaluate", *sys.argv[1:]]
    main()
