"""The studio as a Hugging Face Space: set MODEL in the settings of the Space to use another checkpoint."""

import os

from lamp_hf.studio import launch

if __name__ == "__main__":
    launch(os.environ.get("MODEL") or None, host="0.0.0.0")
