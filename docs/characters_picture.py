"""Paint the picture of `docs/characters.md`: one generated motion on several characters.

    python docs/characters_picture.py human-male.glb human-zombie.glb

Needs GLB or VRM files with a skin, and the default checkpoint. The characters of the picture in the repository are CC0
(Quaternius and Kenney, from the Mesh2Motion project).
"""

import sys
from pathlib import Path

import numpy as np
import transformers
from PIL import Image, ImageDraw

import lamp_hf  # noqa: F401 (registers the pipelines)
from lamp_hf import Motion
from lamp_hf.motion.formats.gltf_file import GltfFile
from lamp_hf.motion.retarget import Character, CharacterMotion

FILE = Path(__file__).resolve().parent / "images" / "characters.png"
TEXT, SECONDS, SEED = "a person waves with both hands", 3.0, 1
POSES, WIDTH, HEIGHT, SHARPER = 6, 130, 200, 2
FLOOR, SKIN = (232, 234, 240), np.array([98.0, 122.0, 190.0])
SIDE = np.radians(25.0)  # from which the camera looks
LIGHT = np.array([0.45, 0.65, 0.6])


def triangles(path: Path) -> np.ndarray:
    """Return the triangles (F, 3) of all meshes, in the order of the points of the character's skin."""
    file = GltfFile(path)
    found, count = [], 0
    for node in file.gltf.nodes:
        if node.mesh is not None:
            for primitive in file.gltf.meshes[node.mesh].primitives:
                found.append(file.array(primitive.indices, "SCALAR").astype(int).reshape(-1, 3) + count)
                count += file.gltf.accessors[primitive.attributes.POSITION].count
    return np.concatenate(found)


def paint(made: CharacterMotion, faces: np.ndarray) -> Image.Image:
    """Paint a row of poses, from far to near triangles."""
    frames = np.linspace(0, made.num_frames - 1, POSES).astype(int)
    picture = Image.new("RGB", (POSES * WIDTH * SHARPER, HEIGHT * SHARPER), "white")
    draw = ImageDraw.Draw(picture)
    character = made.character
    points = made.skin()[frames] @ character.axes.T - [0.0, character.floor, 0.0]
    turn = np.array([[np.cos(SIDE), 0.0, np.sin(SIDE)], [0.0, 1.0, 0.0], [-np.sin(SIDE), 0.0, np.cos(SIDE)]])
    points = points @ turn.T
    scale = 0.86 * HEIGHT * SHARPER / points[..., 1].max()
    for number, pose in enumerate(points):
        middle = (pose[:, 0].max() + pose[:, 0].min()) / 2.0
        center, ground = (number + 0.5) * WIDTH * SHARPER, 0.95 * HEIGHT * SHARPER
        wide = 0.36 * WIDTH * SHARPER
        draw.ellipse((center - wide, ground - wide / 5, center + wide, ground + wide / 5), fill=FLOOR)
        corners = pose[faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        shade = 0.45 + 0.6 * np.clip(normals @ LIGHT, 0.0, 1.0)
        places = np.stack([center + (corners[..., 0] - middle) * scale, ground - corners[..., 1] * scale], axis=-1)
        for face in np.argsort(corners[..., 2].mean(axis=1)):
            if normals[face, 2] > 0.0:  # toward the camera
                color = tuple(int(value) for value in np.minimum(SKIN * shade[face], 255.0))
                draw.polygon([tuple(corner) for corner in places[face]], fill=color)
    return picture


def main() -> None:
    """Write the picture."""
    pipe = transformers.pipeline("text-to-motion")
    motion: Motion = pipe(TEXT, duration=SECONDS, seed=SEED)["motion"]
    rows = []
    for path in map(Path, sys.argv[1:]):
        character = Character.load(path)
        rows.append(paint(motion.on(character), triangles(path)))
    whole = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    for number, row in enumerate(rows):
        whole.paste(row, (0, number * row.height))
    whole = whole.resize((whole.width // SHARPER, whole.height // SHARPER), Image.Resampling.LANCZOS)
    whole.quantize(64, dither=Image.Dither.NONE).save(FILE, optimize=True)
    print(f"{FILE}: {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
