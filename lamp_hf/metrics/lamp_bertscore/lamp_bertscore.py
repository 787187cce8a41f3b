"""LaMP-BertScore of motions generated for texts, as a module of `evaluate`."""

from typing import Any

import evaluate

from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT, portable_name, resolve_checkpoint
from lamp_hf.metrics import captions as shared
from lamp_hf.metrics import inputs

_DESCRIPTION = """
LaMP-BertScore: a captioner describes each motion, and BERTScore compares the caption with the texts that the motion was
generated for. No evaluator of motions is needed. Higher is better; the scores of real motions and of motions with
shuffled texts show what is good and what is chance.
"""

_CITATION = """
@inproceedings{li2025lamp,
  title = {{LaMP}: Language-Motion Pretraining for Motion Generation, Retrieval, and Captioning},
  author = {Li, Zhe and Yuan, Weihao and He, Yisheng and Qiu, Lingteng and Zhu, Shenhao and Gu, Xiaodong and Shen,
            Weichao and Dong, Yuan and Dong, Zilong and Yang, Laurence T.},
  booktitle = {ICLR},
  year = {2025}
}
@inproceedings{zhang2020bertscore,
  title = {{BERTScore}: Evaluating Text Generation with {BERT}},
  author = {Zhang, Tianyi and Kishore, Varsha and Wu, Felix and Weinberger, Kilian Q. and Artzi, Yoav},
  booktitle = {ICLR},
  year = {2020}
}
"""

_KWARGS_DESCRIPTION = """

Args:
    predictions: Motions, each a `Motion`, a path, or an array: joints (T, J, 3) in meters or features (T, D), at the
        captioner's frame rate. They are captioned when they are added, and only the captions are stored.
    references: For each motion, the text that it was generated for, or a list of texts that describe it.
    captioner: Passed to `load`: a motion-captioning pipeline, or folder or Hub id of a checkpoint. Defaults to the
        packaged checkpoint.
    bertscore_model: Passed to `load`: folder, Hub id, or `package:NAME` for a model inside an installed package.
        Defaults to all-MiniLM-L6-v2, which needs no download.
    num_layers, idf, rescale_with_baseline, device: Passed to `load`: see
        `lamp_hf.metrics.functional.sentences.BertScorer`.

Returns:
    `lamp_bertscore`, the mean F1; `bertscore_precision`, `bertscore_recall`, `bertscore_f1`; `bertscore_model`:
    the model, its layer and weights; `captioner`, the name of its checkpoint; `captions`, the caption of each motion.

Raises:
    ValueError: A motion has no reference, or the captioner cannot read it.

Examples:

    >>> metric = lamp_hf.metrics.load("lamp_bertscore")
    >>> scores = metric.compute(predictions=[walk], references=["a person walks forward"])
    >>> sorted(scores)[-3:], scores["captioner"], len(scores["captions"])
    (['captioner', 'captions', 'lamp_bertscore'], 'lamp-small', 1)
"""


class LampBertscore(shared.CaptionMetric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=self.columns(),
        )

    def __init__(self, *args, captioner=None, **options):
        super().__init__(*args, **options)
        if captioner is None or isinstance(captioner, str):
            from transformers import pipeline

            make: Any = pipeline  # its overloads list only transformers' own tasks
            captioner = make("motion-captioning", model=resolve_checkpoint(captioner or DEFAULT_CHECKPOINT))
        self.captioner = captioner

    def reduce(self, predictions, references):
        inputs.paired(predictions, references)
        texts = inputs.as_references(references)
        return {
            "caption": [self._caption(answers) for answers in self.captioner(list(predictions))],
            "references": texts,
        }

    @staticmethod
    def _caption(answers):
        """Return the best caption of a motion; for a long motion, join the best captions of its windows."""
        best: dict[float | None, str] = {}
        for answer in answers:  # best first
            best.setdefault(answer.get("start"), answer["caption"])
        return ", then ".join(best.values())

    def _compute(self, caption, references):
        scores = self.bertscore(caption, references)
        return {
            "lamp_bertscore": scores["bertscore_f1"],
            **scores,
            "captioner": portable_name(str(self.captioner.model.name_or_path)),
            "captions": list(caption),
        }
