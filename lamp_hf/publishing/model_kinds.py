"""The text that the cards of all models of one type share."""

from dataclasses import dataclass

__all__ = ["KINDS"]

TO_MOTION = """
import lamp_hf  # makes the task known to transformers
from transformers import pipeline

pipe = pipeline("text-to-motion", model="{name}")
motion = pipe("a person waves", {length}seed=1)["motion"]
motion.save("wave.bvh")  # or .glb .gif .mp4 .html .npz .npy
"""
CAPTIONS = """
import lamp_hf  # makes the task known to transformers
from transformers import pipeline

describe = pipeline("motion-captioning", model="{name}")
describe("walk.bvh")  # [{{"caption": …, "score": …}}]
"""
RETRIEVAL = """
import lamp_hf  # makes the task known to transformers
from transformers import pipeline

search = pipeline("motion-retrieval", model="{name}", index="my_mocap")  # a folder of BVH, NPY and NPZ files
search("someone waves", top_k=5)  # [{{"id", "file", "score", "captions"}}, …]
"""
TOKENS = """
import lamp_hf
from transformers import AutoFeatureExtractor, AutoModel

tokenizer = AutoModel.from_pretrained("{name}")
extractor = AutoFeatureExtractor.from_pretrained("{name}")
motion = lamp_hf.Motion.load("walk.bvh").resample(extractor.fps)
codes = tokenizer.encode(**extractor(motion, return_tensors="pt")).codes
"""
FEATURES = """
import lamp_hf.metrics
from transformers import AutoModel, {prepares}

evaluator, processor = AutoModel.from_pretrained("{name}"), {prepares}.from_pretrained("{name}")
fid = lamp_hf.metrics.load("motion_fid", evaluator=evaluator, processor=processor)
"""
LENGTHS = """
import lamp_hf
from transformers import AutoModel

estimator = AutoModel.from_pretrained("{name}")
num_frames = estimator(text_features).num_frames  # text features, see below
"""
MODEL = """
from transformers import AutoModel

model = AutoModel.from_pretrained("{name}")
"""
LANGUAGE_MODEL = """
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained("{name}"), AutoTokenizer.from_pretrained("{name}")
"""


@dataclass(frozen=True)
class Kind:
    """The text that the cards of all models of one type share.

    Args:
        does: What the model does: the end of "This model …".
        task: Task of the pipeline that loads it, if there is one.
        usage: Python code with the fields `{name}` for the checkpoint, `{length}` for the argument of models without a
            length estimator, and `{prepares}` for the class that prepares the inputs of an evaluator.
        tags: Tags besides those of all cards.
        library: Library that loads it.
    """

    does: str
    task: str | None
    usage: str
    tags: tuple[str, ...] = ()
    library: str = "lamp_hf"


KINDS = {
    "lamp_text_to_motion": Kind(
        "generates human motion from text, and also captions and retrieves motion",
        "text-to-motion",
        TO_MOTION,
        ("text-to-motion", "motion-captioning", "motion-retrieval"),
    ),
    "lamp": Kind(
        "embeds human motion and text in one space, and retrieves and captions motion",
        "motion-retrieval",
        RETRIEVAL,
        ("motion-retrieval", "motion-captioning"),
    ),
    "lamp_captioning": Kind("captions human motion with a language model", "motion-captioning", CAPTIONS),
    "motion_vqvae": Kind(
        "encodes human motion into tokens and decodes tokens into motion", None, TOKENS, ("motion-tokenizer",)
    ),
    "motion_text_evaluator": Kind(
        "computes the features for metrics of generated motion", None, FEATURES, ("motion-text-evaluator",)
    ),
    "motion_length_estimator": Kind("estimates the length of a motion from features of its text", None, LENGTHS),
    "opt": Kind(
        "is a language model trained on captions of motion", "text-generation", LANGUAGE_MODEL, (), "transformers"
    ),
}
OTHER = Kind("relates motion and language", None, MODEL, (), "transformers")
# What users of a converted model must know, by the kind that the conversion record names.
REMARKS = {
    "text-to-motion": (
        "It has no length estimator, because the released one reads CLIP features: pass `duration` or `num_frames` for "
        "every motion."
    ),
    "captioning": (
        'The released code starts every caption with "a man is" and uses beam search with 5 beams. Here captions '
        'have no fixed start; pass `prompt="a man is"`, `num_beams=5` and `max_new_tokens=47` for the same captions.'
    ),
    "evaluator": (
        "Texts are read as GloVe vectors and parts of speech. HumanML3D and KIT-ML annotate their captions with them, "
        "as in `a/DET person/NOUN walk/VERB`; other texts are tagged with spaCy (`pip install 'lamp_hf[tagger]'`). An "
        "evaluator that was converted without GloVe vectors only reads motions. Features are returned in the order of "
        "the inputs."
    ),
    "length-estimator": (
        "Texts are given as the {input_size} text features of CLIP ViT-B/32. The released code samples a length, which "
        "may be 0. Here the length is the median, and at least one token of 4 frames."
    ),
}
