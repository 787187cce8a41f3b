"""A small data set of procedural motions for the training tests."""

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from lamp_hf.data import motion_features


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory, procedural) -> Path:
    """Eight walks and eight waves of 30 to 60 frames, saved to disk with captions and labels."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(16):
        walking = index % 2 == 0
        frames = int(rng.integers(30, 60))
        if walking:
            motion = procedural.walker(frames, speed=0.6 + 0.05 * index, turn=0.1 * (index - 6))
            captions = ["a person walks forward", "someone is walking"]
        else:
            motion = procedural.waver(frames, side="left" if index % 4 == 1 else "right")
            captions = ["a person waves with one hand", "someone is waving"]
        features = motion.features
        rows.append(
            {
                "id": f"clip{index:02d}",
                "motion": features,
                "captions": [{"text": text, "start": 0.0, "end": 0.0} for text in captions],
                "source": "procedural",
                "fps": 20.0,
                "num_frames": len(features),
                "content": "walk" if walking else "wave",
                "style": "normal",
                "mirrored": False,
            }
        )
    folder = tmp_path_factory.mktemp("tiny_set")
    splits = {"train": rows[:12], "validation": rows[12:]}
    DatasetDict(
        {name: Dataset.from_list(part, features=motion_features()) for name, part in splits.items()}
    ).save_to_disk(folder)
    return folder
