"""Tokenizer of the released evaluator: words with their parts of speech, looked up among GloVe vectors."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizer

__all__ = ["POS_TAGS", "GloveTokenizer", "is_annotated"]

TAGGER = "en_core_web_sm"  # the model with which HumanML3D and KIT-ML were annotated
WORDS_FILE = "words.json"
UNKNOWN = "unk"
OTHER = "OTHER"
# Parts of speech, in the order of the released evaluator's input. The last ones but OTHER stand for groups of words.
POS_TAGS = (
    *("VERB", "NOUN", "DET", "ADP", "NUM", "AUX", "PRON", "ADJ", "ADV"),
    *("Loc_VIP", "Body_VIP", "Obj_VIP", "Act_VIP", "Desc_VIP"),
    OTHER,
)
# Words whose group replaces their part of speech.
_GROUPS = {
    "Loc_VIP": "left right clockwise counterclockwise anticlockwise forward back backward up down straight curve",
    "Body_VIP": "arm chin foot feet face hand mouth leg waist eye knee shoulder thigh",
    "Obj_VIP": "stair dumbbell chair window floor car ball handrail baseball basketball",
    "Act_VIP": (
        "walk run swing pick bring kick put squat throw hop dance jump turn stumble stop sit lift lower raise wash "
        "stand kneel stroll rub bend balance flap jog shuffle lean rotate spin spread climb"
    ),
    "Desc_VIP": "slowly carefully fast careful slow quickly happy angry sad happily angrily sadly",
}
_GROUP_OF = {word: group for group, words in _GROUPS.items() for word in words.split()}
# Parts of speech that an annotation may contain: those of Universal Dependencies, and those above.
_ANNOTATED = {
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "CONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT"),
    *("SCONJ", "SPACE", "SYM", "VERB", "X"),
    *POS_TAGS,
}
_PIECE = re.compile(r"[^/]+/(\w+)")


def is_annotated(text: str) -> bool:
    """Return whether a text has the form of an annotation, `a/DET person/NOUN walk/VERB`."""
    found = [_PIECE.fullmatch(piece) for piece in text.split()]
    return bool(found) and all(piece is not None and piece[1] in _ANNOTATED for piece in found)


class GloveTokenizer(PreTrainedTokenizer):
    """Turns texts into pairs of word and part of speech, for a [`MotionTextEvaluatorModel`] with word vectors.

    The id of a pair is `word * len(POS_TAGS) + tag`. Words that have no vector become `unk/OTHER`. For 81 words about
    places, bodies, objects, actions and manners, the tag is the group of the word. Every text begins with `sos/OTHER`
    and ends with `eos/OTHER`; with a `model_max_length` of 22, as in the released evaluation, 20 words are kept.

    A text in the form of the data sets' annotation, `a/DET person/NOUN walk/VERB`, is read as it is. Other texts are
    tagged with spaCy in the way in which the annotation was made (Guo et al., 2022): without hyphens and punctuation,
    with nouns and verbs as lemmas. They are also lowercased, because all words of the vectors are.

    Args:
        vocab_file: JSON file with the list of words, in the order of the vectors.
        tagger: Name or folder of a spaCy model. Defaults to `en_core_web_sm`, the one of the annotation.
        kwargs: Arguments of any tokenizer.

    Raises:
        ValueError: The file is not a list of different words, or lacks the word `unk`.
    """

    vocab_files_names = {"vocab_file": WORDS_FILE}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(self, vocab_file: str | os.PathLike[str], tagger: str = TAGGER, **kwargs: Any):
        words = json.loads(Path(vocab_file).read_text(encoding="utf-8"))
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{vocab_file}: not a list of words; convert the evaluator again")
        self.words: list[str] = words
        self._rows = {word: row for row, word in enumerate(words)}
        if len(self._rows) != len(words) or UNKNOWN not in self._rows:
            raise ValueError(
                f"{vocab_file}: a word appears twice, or the word {UNKNOWN!r} is missing; convert the evaluator again"
            )
        self._tagger: Any = None
        begin, end = (word if word in self._rows else UNKNOWN for word in ("sos", "eos"))
        special = {"bos_token": begin, "eos_token": end, "unk_token": UNKNOWN, "pad_token": UNKNOWN}
        super().__init__(tagger=tagger, **{**kwargs, **special})
        self.tagger = tagger

    @property
    def vocab_size(self) -> int:
        """Number of ids: pairs of word and part of speech."""
        return len(self.words) * len(POS_TAGS)

    def get_vocab(self) -> dict[str, int]:
        """Return the id of each word with the part of speech `OTHER`."""
        return {word: self._id(row, OTHER) for word, row in self._rows.items()}

    def tokenize(
        self, text: str, pair: str | None = None, add_special_tokens: bool = False, **kwargs: Any
    ) -> list[str]:
        """Return the pairs of a text as strings such as `walk/Act_VIP`.

        Raises:
            ModuleNotFoundError: The text is not annotated, and spaCy is not installed.
            OSError: spaCy does not have the model.
        """
        if is_annotated(text):
            pairs = [piece.rsplit("/", 1) for piece in text.split()]
        else:
            pairs = [list(pair) for pair in self._tagged(text)]
        found = []
        for word, tag in pairs:
            if word not in self._rows:
                word, tag = UNKNOWN, OTHER
            elif word in _GROUP_OF:
                tag = _GROUP_OF[word]
            found.append(f"{word}/{tag if tag in POS_TAGS else OTHER}")
        return found

    def require_tagger(self) -> None:
        """Check that texts without annotation can be tagged; raises as [`tokenize`]."""
        if self._tagger is None:
            self._tagger = _load_tagger(self.tagger)

    def _tagged(self, text: str) -> list[tuple[str, str]]:
        self.require_tagger()
        found = []
        for token in self._tagger(text.lower().replace("-", "")):
            if token.text.isalpha():
                # "left" is not the past of "leave" here.
                lemma = token.pos_ in ("NOUN", "VERB") and token.text != "left"
                found.append((token.lemma_ if lemma else token.text, token.pos_))
        return found

    def _id(self, row: int, tag: str) -> int:
        return row * len(POS_TAGS) + POS_TAGS.index(tag)

    def _convert_token_to_id(self, token: str) -> int:
        word, _, tag = token.rpartition("/")
        return self._id(self._rows[word], tag) if word in self._rows else self._id(self._rows[UNKNOWN], OTHER)

    def _convert_id_to_token(self, index: int) -> str:
        row, tag = divmod(index, len(POS_TAGS))
        return f"{self.words[row]}/{POS_TAGS[tag]}"

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Join pairs with spaces, as in an annotation."""
        return " ".join(tokens)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Add the beginning and the end to a text."""
        return [self.bos_token_id, *token_ids_0, *(token_ids_1 or []), self.eos_token_id]

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        """Save the words in the order of the vectors."""
        path = Path(save_directory, f"{filename_prefix}-{WORDS_FILE}" if filename_prefix else WORDS_FILE)
        path.write_text(json.dumps(self.words, ensure_ascii=False), encoding="utf-8")
        return (str(path),)


def _load_tagger(name: str) -> Any:
    try:
        import spacy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "texts without part-of-speech tags need spaCy: pip install 'lamp_hf[tagger]', then python -m spacy "
            f"download {name}; or give texts with tags, as HumanML3D and KIT-ML have them"
        ) from error
    try:
        return spacy.load(name, exclude=["parser", "ner"])
    except OSError as error:
        raise OSError(
            f"{name}: spaCy does not have this model; install it with python -m spacy download {name}"
        ) from error


def write_words(words: Sequence[str], folder: str | os.PathLike[str]) -> Path:
    """Write the file that a [`GloveTokenizer`] reads."""
    path = Path(folder, WORDS_FILE)
    path.write_text(json.dumps(list(words), ensure_ascii=False), encoding="utf-8")
    return path
