"""Motion datasets: loads data from disk or the Hub as a `datasets.DatasetDict` with one schema."""

from lamp_hf.data.bandai_namco.grammar import CaptionGrammar, CaptionGrammarError
from lamp_hf.data.bandai_namco.loader import bandai_namco_grammar, load_bandai_namco
from lamp_hf.data.cmu import load_cmu_mocap
from lamp_hf.data.humanml3d import load_humanml3d, load_kit_ml
from lamp_hf.data.loading import load_motion_dataset
from lamp_hf.data.motionfolder import load_motionfolder
from lamp_hf.data.named_sets import dataset_name
from lamp_hf.data.schema import motion_features, training_statistics, with_numpy_motion

__all__ = [
    "CaptionGrammar",
    "CaptionGrammarError",
    "bandai_namco_grammar",
    "dataset_name",
    "load_bandai_namco",
    "load_cmu_mocap",
    "load_humanml3d",
    "load_kit_ml",
    "load_motion_dataset",
    "load_motionfolder",
    "motion_features",
    "training_statistics",
    "with_numpy_motion",
]
