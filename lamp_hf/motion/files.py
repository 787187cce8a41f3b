"""Registry of the modules that read and write each file type."""

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lamp_hf.motion.errors import MotionFormatError

# Modules are imported on first use because some of them load large libraries.
READERS: Mapping[str, tuple[str, str]] = {
    ".bvh": ("lamp_hf.motion.formats.bvh", "read_bvh"),
    ".npy": ("lamp_hf.motion.formats.arrays", "read_npy"),
    ".npz": ("lamp_hf.motion.formats.arrays", "read_npz"),
    ".glb": ("lamp_hf.motion.formats.gltf_reader", "read_gltf"),
    ".gltf": ("lamp_hf.motion.formats.gltf_reader", "read_gltf"),
    ".vrma": ("lamp_hf.motion.formats.gltf_reader", "read_gltf"),
    ".vrm": ("lamp_hf.motion.formats.gltf_reader", "read_gltf"),
}
_BLENDER = (
    'blender -b --python-expr "import bpy; bpy.ops.wm.read_factory_settings(use_empty=True); {read}; '
    "bpy.ops.export_scene.gltf(filepath='{stem}.glb')\""
)
# How to convert other motion files, by suffix.
_DETOURS: Mapping[str, str] = {
    ".fbx": "convert it with Blender: " + _BLENDER.replace("{read}", "bpy.ops.import_scene.fbx(filepath='{name}')"),
    ".dae": "convert it with Blender up to 4.5: "
    + _BLENDER.replace("{read}", "bpy.ops.wm.collada_import(filepath='{name}')"),
    ".usd": "convert it with Blender: " + _BLENDER.replace("{read}", "bpy.ops.wm.usd_import(filepath='{name}')"),
    ".blend": 'export it with Blender: blender -b {name} --python-expr "import bpy; '
    "bpy.ops.export_scene.gltf(filepath='{stem}.glb')\"",
    ".c3d": "C3D contains markers, not joints: solve a skeleton (Vicon, Motive, or MoSh++ to SMPL) and save it as BVH",
    ".trc": "TRC contains markers, not joints: solve a skeleton (OpenSim) and save it as BVH",
    ".asf": "ASF/AMC: convert the pair to BVH (amc2bvh, or Blender's add-on)",
    ".bip": "BIP is a 3ds Max format: load it onto a Biped there, export FBX, and convert that with Blender",
    ".vmd": "VMD is a MikuMikuDance format: load it onto a model in Blender with mmd_tools and export BVH",
    ".anim": "Unity's .anim: export it with Unity's FBX Exporter, then convert the FBX with Blender",
    ".pkl": 'a pickle can run code and is never loaded; if you trust it: python -c "import pickle, numpy as np; '
    "np.savez('{stem}.npz', **pickle.load(open('{name}', 'rb')))\"",
    ".pt": 'a pickle can run code and is never loaded; if you trust it: python -c "import torch, numpy as np; '
    "np.savez('{stem}.npz', **torch.load('{name}', weights_only=True)['smpl_params_global'])\" for GVHMR's results",
}
_SAME_DETOUR = {
    **dict.fromkeys((".usda", ".usdc", ".usdz"), ".usd"),
    ".amc": ".asf",
    ".pickle": ".pkl",
    ".pth": ".pt",
}
# Suffixes of motion files that are not supported but have such a hint.
UNREAD = frozenset((*_DETOURS, *_SAME_DETOUR))
WRITERS: Mapping[str, tuple[str, str]] = {
    ".bvh": ("lamp_hf.motion.formats.bvh", "write_bvh"),
    ".glb": ("lamp_hf.motion.formats.gltf", "write_glb"),
    ".npy": ("lamp_hf.motion.formats.arrays", "write_npy"),
    ".npz": ("lamp_hf.motion.formats.arrays", "write_npz"),
    ".gif": ("lamp_hf.motion.formats.video", "write_video"),
    ".mp4": ("lamp_hf.motion.formats.video", "write_video"),
    ".png": ("lamp_hf.motion.formats.video", "write_png"),
    ".html": ("lamp_hf.motion.formats.html", "write_html"),
}
# Formats that store a motion unchanged; the others may plant its feet.
EXACT_FORMATS = (".npy", ".npz")
# Formats that show a body, as a mannequin or a skeleton.
SHOWN_FORMATS = (".glb", ".gif", ".mp4", ".png", ".html")

_PLAYER = ("lamp_hf.motion.formats.html", "motion_to_html")


def find_reader(path: str | os.PathLike[str]) -> Callable[..., Any]:
    """Return the function that reads files with the suffix of this path.

    Raises:
        MotionFormatError: no reader supports the suffix.
    """
    return _find(path, READERS, "read")


def find_writer(path: str | os.PathLike[str]) -> Callable[..., Any]:
    """Return the function that writes files with the suffix of this path.

    Raises:
        MotionFormatError: no writer supports the suffix.
    """
    return _find(path, WRITERS, "write")


def find_player() -> Callable[..., str]:
    """Return the function that creates the player of a motion for a notebook."""
    return _imported(*_PLAYER)


def _find(path: str | os.PathLike[str], registry: Mapping[str, tuple[str, str]], verb: str) -> Callable[..., Any]:
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in registry:
        detour = _DETOURS.get(_SAME_DETOUR.get(suffix, suffix))
        if detour is not None and verb == "read":
            hint = detour.replace("{name}", path.name).replace("{stem}", path.stem)
            raise MotionFormatError(f"{path.name}: {suffix} files cannot be read ({hint})")
        found = f"the suffix {suffix!r}" if suffix else "no suffix"
        if detour is not None:
            found += " (write .glb or .bvh, and convert it in Blender or your game engine)"
        raise MotionFormatError(
            f"{path.name}: cannot {verb} this format; expected one of {', '.join(registry)}, found {found}"
        )
    return _imported(*registry[suffix])


def _imported(module: str, function: str) -> Callable[..., Any]:
    return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]
