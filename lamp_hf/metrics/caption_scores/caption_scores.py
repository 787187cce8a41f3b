"""BLEU, ROUGE-L, CIDEr-D and BERTScore of captions, as a module of `evaluate`."""

import evaluate

from lamp_hf.metrics import captions as shared
from lamp_hf.metrics import inputs
from lamp_hf.metrics.functional import captions

_DESCRIPTION = """
BLEU@1 and BLEU@4 (sacrebleu), ROUGE-L (rouge-score), CIDEr-D, and BERTScore (bert-score) of captions, each against
one or more references.
"""

_CITATION = """
@inproceedings{guo2022tm2t,
  title = {{TM2T}: Stochastic and Tokenized Modeling for the Reciprocal Generation of {3D} Human Motions and Texts},
  author = {Guo, Chuan and Zuo, Xinxin and Wang, Sen and Cheng, Li},
  booktitle = {ECCV},
  year = {2022}
}
@inproceedings{vedantam2015cider,
  title = {{CIDEr}: Consensus-based Image Description Evaluation},
  author = {Vedantam, Ramakrishna and Zitnick, C. Lawrence and Parikh, Devi},
  booktitle = {CVPR},
  year = {2015}
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
    predictions: Captions.
    references: For each caption a list of references, or a single reference.
    bertscore: Whether to compute BERTScore, which needs a language model.
    bertscore_model: Passed to `load`: folder, Hub id, or `package:NAME` for a model inside an installed package.
        Defaults to all-MiniLM-L6-v2, which needs no download. Published tables use roberta-large.
    num_layers, idf, rescale_with_baseline, device: Passed to `load`: see
        `lamp_hf.metrics.functional.sentences.BertScorer`.

Returns:
    `bleu_1`, `bleu_4`, `rouge_l` from 0 to 1; `cider` from 0 to 10; `cider_variant`; `num_captions`; and with BERTScore
    `bertscore_precision`, `bertscore_recall`, `bertscore_f1`, and `bertscore_model`: the model, its layer and weights.
    Published tables show all scores times 100.

Raises:
    ValueError: A caption has no reference, or an empty one.

Examples:

    >>> metric = lamp_hf.metrics.load("caption_scores")
    >>> metric.add_batch(predictions=["a person walks."], references=[["a person walks", "someone walks ahead"]])
    >>> metric.add_batch(predictions=["a man jumps up"], references=["a man jumps"])
    >>> scores = metric.compute(bertscore=False)
    >>> round(scores["bleu_1"], 4), round(scores["rouge_l"], 4), round(scores["cider"], 4)
    (0.8571, 0.9286, 5.0149)
"""


class CaptionScores(shared.CaptionMetric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=self.columns(),
        )

    def reduce(self, predictions, references):
        inputs.paired(predictions, references)
        return {"caption": inputs.as_captions(predictions), "references": inputs.as_references(references)}

    def _compute(self, caption, references, bertscore=True):
        result = {
            "bleu_1": captions.bleu(caption, references, 1),
            "bleu_4": captions.bleu(caption, references, 4),
            "rouge_l": float(captions.rouge_l(caption, references).mean()),
            "cider": float(captions.cider_d(caption, references).mean()),
            "cider_variant": captions.CIDER_VARIANT,
            "num_captions": len(caption),
        }
        return {**result, **self.bertscore(caption, references)} if bertscore else result
