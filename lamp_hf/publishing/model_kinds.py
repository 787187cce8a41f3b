"""What a card says of all models of a type."""

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
num_frames = estimator(text_features).num_frames  # of features of texts, see below
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
    """What a card says of all models of a type.

    Args:
        does: What it does, the end of "This model …".
        task: Pipeline that loads it.
        usage: Code, with `{name}` for the checkpoint, `{length}` where a motion is asked for, and `{prepares}` for the
            class that prepares what an evaluator reads.
        tags: Beside those of all cards.
        library: That loads it.
    """

    does: str
    task: str | None
    usage: str
    tags: tuple[str, ...] = ()
    library: str = "lamp_hf"


KINDS = {
    "lamp_text_to_motion": Kind(
        "makes human motion from sentences, and captions and finds motion too",
        "text-to-motion",
        TO_MOTION,
        ("text-to-motion", "motion-captioning", "motion-retrieval"),
    ),
    "lamp": Kind(
        "puts human motion and language into one space: it finds and captions motion",
        "motion-retrieval",
        RETRIEVAL,
        ("motion-retrieval", "motion-captioning"),
    ),
    "lamp_captioning": Kind("lets a language model caption motion", "motion-captioning", CAPTIONS),
    "motion_vqvae": Kind("turns human motion into tokens and back", None, TOKENS, ("motion-tokenizer",)),
    "motion_text_evaluator": Kind(
        "has the features that generated motion is measured with", None, FEATURES, ("motion-text-evaluator",)
    ),
    "motion_length_estimator": Kind("tells how long a motion is, from features of its text", None, LENGTHS),
    "opt": Kind(
        "is a language model that learned captions of motion", "text-generation", LANGUAGE_MODEL, (), "transformers"
    ),
}
OTHER = Kind("belongs to motion and language", None, MODEL, (), "transformers")
# What users of a converted model must know.
REMARKS = {
    "text-to-motion": (
        "It has no length estimator, for the released one reads features of CLIP: ask for every motion with its "
        "`duration` or `num_frames`."
    ),
    "captioning": (
        'The released code begins captions with "a man is" and searches with 5 beams; here nothing is begun for you, '
        "and `num_beams=5` asks for the same search."
    ),
    "evaluator": (
        "Texts go in as GloVe word vectors and part-of-speech tags (`word_embeddings`, `pos_one_hots`), which lamp_hf "
        "does not make: FID, Diversity and MultiModality need none, R-Precision and MM-Dist the `get_text_features` of "
        "yours. Features come in the order of the input."
    ),
    "length-estimator": (
        "Texts go in as the {input_size} numbers of CLIP ViT-B/32's text encoder. The released code draws a length and "
        "may draw 0; here it is the median, from 1 token of 4 frames."
    ),
}
