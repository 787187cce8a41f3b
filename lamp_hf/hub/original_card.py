"""The card of a converted model: what it is, what it was made from, what was assumed."""

from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from .conversion import ConvertedModel

__all__ = ["conversion_card"]

TITLES = {
    "motion-vqvae": "Motion tokenizer of LaMP",
    "lamp": "LaMP: motion and text in one space",
    "text-to-motion": "LaMP: text to motion",
    "captioning": "LaMP: motion captioning with a language model",
    "evaluator": "Evaluator of text to motion",
    "length-estimator": "Estimator of motion lengths",
}
PIPELINES = {"text-to-motion": "text-to-motion", "captioning": "motion-captioning", "lamp": "motion-retrieval"}
SNIPPETS = {
    "motion-vqvae": 'model = lamp_hf.MotionVQVAEModel.from_pretrained("FOLDER")',
    "lamp": 'search = pipeline("motion-retrieval", model="FOLDER", index="my_mocap/")',
    "text-to-motion": (
        'pipe = pipeline("text-to-motion", model="FOLDER")\n'
        'pipe("a person walks forward", duration=4.0, seed=1)["motion"].save("walk.bvh")'
    ),
    "captioning": 'caption = pipeline("motion-captioning", model="FOLDER")',
    "evaluator": 'model = lamp_hf.MotionTextEvaluatorModel.from_pretrained("FOLDER")',
    "length-estimator": 'model = lamp_hf.MotionLengthEstimatorModel.from_pretrained("FOLDER")',
}
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
        "Texts go in as GloVe word vectors and part-of-speech tags (`word_embeddings`, `pos_one_hots`). Features come "
        "in the order of the input."
    ),
    "length-estimator": (
        "Texts go in as the 512 numbers of CLIP ViT-B/32's text encoder. The released code draws a length and may draw "
        "0; here it is the median, from 1 token of 4 frames."
    ),
}


def conversion_card(model: "ConvertedModel", model_class: str, license: str | None) -> str:
    """Markdown with the header that the Hub reads.

    Args:
        model: What was converted.
        model_class: Name of its class.
        license: Of the weights; `None`: not known, which the card says.
    """
    header = {"library_name": "lamp_hf", "license": license or "other", "tags": ["human-motion", "lamp"]}
    if model.kind in PIPELINES:
        header["pipeline_tag"] = PIPELINES[model.kind]
    imports = "import lamp_hf\n" + ("from transformers import pipeline\n" if model.kind in PIPELINES else "")
    lines = [
        "---",
        yaml.safe_dump(header, sort_keys=False).strip(),
        "---",
        "",
        f"# {TITLES[model.kind]}",
        "",
        f"A `{model_class}` of {model.parameters:,} numbers, converted by `lamp-hf convert` from checkpoints of other "
        "people's training. Its outputs are those of the code that they were published for.",
        "",
        f"```python\n{imports}\n{SNIPPETS[model.kind]}\n```",
        "",
    ]
    if model.kind in REMARKS:
        lines += [REMARKS[model.kind], ""]
    lines += ["## Converted from", "", "| file | SHA-256 |", "|---|---|"]
    lines += [f"| `{file.path.name}` | `{file.sha256}` |" for file in model.sources]
    lines += [
        "",
        f"{model.tensors_used} tensors are in the model; {model.tensors_unused} take no part or came twice. Weights "
        "are stored in float32.",
        "",
    ]
    if model.settings:
        lines += ["Not told by the tensors:", ""]
        lines += [f"- `{name}`: {value} ({source})" for name, (value, source) in model.settings.items()]
        lines += [""]
    lines += ["## Licence", ""]
    if license is None:
        lines += ["Not stated at the conversion. Ask the authors of the weights before you use or publish them."]
    else:
        lines += [f"`{license}`, as stated at the conversion."]
    return "\n".join(lines) + "\n"
