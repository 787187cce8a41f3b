"""Clips with other rigs have nearly the same vectors as the same motion on our skeleton, and find it."""

from pathlib import Path

import pytest
from transformers import pipeline

from lamp_hf.motion.formats.bvh import read_bvh_with_report

RIGS = ["lafan1", "3ds max", "xsens", "rokoko", "daz"]


@pytest.mark.parametrize("rig", RIGS)
def test_joint_names_belong_to_another_rig(rig: str, save_as_rig, walker, tmp_path: Path) -> None:
    save_as_rig(walker, tmp_path / "clip.bvh", rig)
    motion, report = read_bvh_with_report(tmp_path / "clip.bvh")
    assert report.rig != "lamp_hf"
    assert motion.num_frames == walker.num_frames


def test_search_in_a_folder_with_other_rigs(save_as_rig, procedural, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mocap"
    folder.mkdir()
    motions = {
        "walk": procedural.walker(80),
        "wave": procedural.waver(80),
        "wave left": procedural.waver(80, side="left"),
    }
    for rig in RIGS:
        for name, motion in motions.items():
            save_as_rig(motion, folder / f"{name} {rig}.bvh", rig)
    search = pipeline("motion-retrieval", index=folder, num_proc=1, device="cpu")
    assert len(search.index) == 15
    for name, motion in motions.items():
        hits = search(motion, top_k=15)
        own = [hit["score"] for hit in hits if Path(hit["file"]).stem in {f"{name} {rig}" for rig in RIGS}]
        assert min(own) > 0.95
        assert max(own) - min(own) < 0.01  # the rig changes nothing
        # Walks and waves differ; left and right waves need not, because these are stiffer than any recording.
        like = hits[: len(RIGS) if name == "walk" else 2 * len(RIGS)]
        assert all(hit["id"].startswith(name.split()[0]) for hit in like)
    texts = ["a person walks forward", "a person waves with the right hand"]
    for hits in search(texts, top_k=15):  # the score of a text and a motion depends little on the rig
        for name in motions:
            scores = [hit["score"] for hit in hits if hit["id"].rsplit(" ", 1)[0].removesuffix(" 3ds") == name]
            assert len(scores) == len(RIGS)
            assert max(scores) - min(scores) < 0.1
