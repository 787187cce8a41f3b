"""Generate the pictures of README and of the documentation with the default checkpoint.

    python docs/pictures.py

Run it again when the default checkpoint changes, and look at the pictures: good seeds for one checkpoint may not suit
another. The strip of README stays below `STRIP_BYTES`, so that the page loads fast.
"""

from pathlib import Path

import transformers
from PIL import Image

import lamp_hf
from lamp_hf import TextToMotionPipeline
from lamp_hf.motion.formats.video import contact_sheet

FOLDER = Path(__file__).resolve().parent / "images"
STRIP_BYTES = 600_000

# The strip of README and the first pictures of the site: file, text, seconds, seed.
STRIP = (
    ("wave.gif", "a person waves with both hands", 3.0, 1),
    ("walk.gif", "a tired person walks and turns left", 3.0, 1),
    ("run.gif", "a person runs forward", 3.0, 1),
    ("bow.gif", "a person bows", 3.0, 1),
)
# The prompt guide: several actions, one action in several styles, and actions that the model does not know.
ACTIONS = (
    "a person walks forward and turns right",
    "a person walks diagonally to the left",
    "a person jogs",
    "a person raises both hands",
    "a person waves the right hand",
    "a person says goodbye with both hands",
    "a person shows the way with the right hand",
    "a person bends forward and calls someone",
)
STYLES = (
    "a person walks forward",
    "a tired person walks forward",
    "an angry person walks forward",
    "a proud person walks forward",
    "an old person walks forward",
    "a childish person walks forward",
)
UNKNOWN = ("a person does a backflip", "a person plays the guitar")
SCENES = (("a person walks", 3.0), ("the person bows", 2.5), ("the person waves with both hands", 3.0))
SEEDS = 3


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    pipe = transformers.pipeline("text-to-motion")
    assert isinstance(pipe, TextToMotionPipeline)
    for name, text, duration, seed in STRIP:
        motion = pipe(text, duration=duration, seed=seed)["motion"]
        motion.save(FOLDER / name, size=180, fps=10, caption="")
    strip = sum((FOLDER / name).stat().st_size for name, *_ in STRIP)
    assert strip < STRIP_BYTES, f"the strip of README has {strip:,} bytes; use fewer frames or a smaller size"

    for name, texts in (("actions", ACTIONS), ("styles", STYLES), ("unknown", UNKNOWN)):
        sheet(name, [result["motion"] for result in pipe(list(texts), duration=4.0, seed=1)])
    takes = pipe("a person dances", duration=6.0, num_motions_per_prompt=SEEDS, seed=1)
    sheet("seeds", [take["motion"].with_text(f"{take['text']}, seed={take['seed']}") for take in takes])
    sheet("storyboard", [pipe.storyboard(SCENES, seed=1)["motion"]])
    walk = pipe("a person walks forward", duration=4.0, seed=3)["motion"]
    text = "a person waves with both hands"
    edited = pipe(text, motion=walk, edit=(1.0, 3.0), seed=1)["motion"]
    sheet("edit", [walk.with_text("before"), edited.with_text(f"after: {text!r} from 1.0 s to 3.0 s")])

    total = sum(path.stat().st_size for path in FOLDER.iterdir())
    print(f"lamp_hf {lamp_hf.__version__}: {strip:,} bytes in the strip, {total:,} in {FOLDER}")


def sheet(name: str, motions: list[lamp_hf.Motion]) -> None:
    """Write motions as strips of poses, one below the other."""
    path = FOLDER / f"{name}.png"
    contact_sheet(motions, path, columns=1, frames_per_motion=8, pose_height=112)  # as wide as the text of a page
    with Image.open(path) as picture:  # with a palette, it looks the same in half of the bytes
        picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
