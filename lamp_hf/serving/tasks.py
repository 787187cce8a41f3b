"""The tasks of a server: how each reads a request, runs its pipeline, and writes the response.

A request has the form of Hugging Face's inference services, `{"inputs": …, "parameters": {…}}`. Parameters are
arguments of the pipeline and, for generated motions, of `Motion.adjust`. They are described in JSON Schema, which
defines the checks here and the OpenAPI description. The pipelines check everything else, so errors are those of the
library.
"""

import json
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from lamp_hf.modeling.masked_decoding import draw_seed
from lamp_hf.motion.files import READERS
from lamp_hf.motion.limits import check_prompt
from lamp_hf.pipelines.actions import split_actions
from lamp_hf.pipelines.requests import checked_number, per_text
from lamp_hf.pipelines.streams import refuse_unknown
from lamp_hf.pipelines.text_warnings import TextToMotionWarning

from .limits import Limits
from .motions import MOTION, OUTPUT, MotionFile, Output, read_motion

__all__ = ["TASKS", "Job", "Task"]

Schema = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Job:
    """A checked request.

    Attributes:
        inputs: Texts or motions.
        settings: Keyword arguments of the pipeline, the same for all inputs.
        per_input: Keyword arguments of the pipeline with one value for each input.
        output: Form of the generated motions.
        size: Number of motions that the request generates.
    """

    inputs: Sequence[Any]
    settings: Mapping[str, Any]
    per_input: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    output: Output | None = None
    size: int = 1

    @property
    def key(self) -> str:
        """Text that is the same for jobs that the pipeline can run in one call."""
        return json.dumps([self.settings, sorted(self.per_input)], sort_keys=True)


class Task(ABC):
    """A task of a server.

    Args:
        pipe: Pipeline of the task.
        limits: Limits of requests.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    parameters: ClassVar[Mapping[str, Schema]]
    input_schema: ClassVar[Schema]
    result_schema: ClassVar[Schema]
    example: ClassVar[dict[str, Any]]
    batches = False  # whether jobs with the same key may run together, with the results that each has alone

    def __init__(self, pipe: Any, limits: Limits):
        self.pipe = pipe
        self.limits = limits

    def read(self, body: Any) -> Job:
        """Check a request.

        Args:
            body: Parsed JSON.

        Raises:
            TypeError: A value has the wrong type, or a parameter is unknown.
            ValueError: A value is invalid or beyond the limits.
        """
        if not isinstance(body, Mapping):
            raise TypeError(f'the request is a {type(body).__name__}; expected an object {{"inputs": …}}')
        if "inputs" not in body:
            raise ValueError('the request has no inputs; expected an object {"inputs": …, "parameters": {…}}')
        inputs = body["inputs"] if isinstance(body["inputs"], list) else [body["inputs"]]
        if not 1 <= len(inputs) <= self.limits.max_inputs:
            raise ValueError(f"inputs has {len(inputs)} values; this server takes 1 to {self.limits.max_inputs}")
        parameters = body.get("parameters")
        if parameters is None:
            parameters = {}
        if not isinstance(parameters, Mapping):
            raise TypeError(f"parameters is a {type(parameters).__name__}; expected an object")
        refuse_unknown(self.name, parameters, tuple(self.parameters))
        parameters = {name: value for name, value in parameters.items() if value is not None}
        for name, value in parameters.items():
            _check_parameter(name, value, self.parameters[name])
        return self._job(inputs, parameters)

    @abstractmethod
    def _job(self, inputs: list[Any], parameters: dict[str, Any]) -> Job:
        """Check the inputs and return the job."""

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> list[list[Any]]:
        """Run jobs with the same key, only one unless the task `batches`.

        Returns:
            A list of results for each job.
        """

    def write(self, job: Job, results: list[Any]) -> Any:
        """Return the response to a job, JSON or a `MotionFile`."""
        return results


class TextToMotion(Task):
    """Generates motions from texts."""

    name = "text-to-motion"
    summary = "Generate motions from texts"
    batches = True
    parameters: ClassVar[Mapping[str, Schema]] = {
        "duration": {
            "type": ["number", "array"],
            "description": "Length in seconds, one for all texts or one for each. Defaults to the model's choice.",
        },
        "num_frames": {"type": ["integer", "array"], "description": "Length in frames of the model, not of `fps`."},
        "seed": {
            "type": ["integer", "array"],
            "description": "Seed, one for all texts or one for each. The same text, seed and length give the same "
            "motion.",
        },
        "num_motions_per_prompt": {
            "type": "integer",
            "minimum": 1,
            "default": 1,
            "description": "Number of motions per text; the j-th (from 0) has the seed `seed + j`.",
        },
        "negative_prompt": {"type": ["string", "array"], "description": "Text that the motions should not show."},
        "split": {"type": "boolean", "description": "Generate the actions of a text one after the other."},
        "guidance_scale": {
            "type": "number",
            "minimum": 0,
            "maximum": 100,
            "description": "How closely to follow texts.",
        },
        "num_inference_steps": {"type": "integer", "minimum": 1, "maximum": 100, "description": "Decoding steps."},
        "temperature": {"type": "number", "minimum": 0, "maximum": 100, "description": "Sampling temperature."},
        "top_k": {"type": "integer", "minimum": 1, "description": "Number of codes to sample from."},
        "top_p": {"type": "number", "minimum": 0, "maximum": 1, "description": "Share of probability to sample from."},
        "remasking_noise": {
            "type": "number",
            "minimum": 0,
            "maximum": 100,
            "description": "Noise of the decoding order.",
        },
        **OUTPUT,
    }
    input_schema: ClassVar[Schema] = {"type": "string", "description": "Description of the motion."}
    result_schema: ClassVar[Schema] = {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "seed": {"type": "integer"},
            "num_frames": {"type": "integer", "description": "Frames that the model generated."},
            "familiarity": {"type": ["number", "null"], "description": "1 for texts like those in the training data."},
            "motion": {
                "type": "object",
                "description": "`positions` (frames, joints, 3) in meters, `fps`, `joint_names`, `parents`, and with "
                "`rotations` local quaternions (w, x, y, z); or a file: `format` and `content`, in Base64.",
            },
        },
    }
    example: ClassVar[dict[str, Any]] = {
        "inputs": "a person waves",
        "parameters": {"duration": 2.0, "seed": 1, "format": "json"},
    }

    def _job(self, inputs: list[Any], parameters: dict[str, Any]) -> Job:
        texts = [check_prompt(text) for text in inputs]
        scenes = [split_actions(text) if parameters.get("split") else [text] for text in texts]
        size = sum(map(len, scenes)) * parameters.get("num_motions_per_prompt", 1)
        if size > self.limits.max_inputs:
            raise ValueError(
                f"the request is for {size} motions; this server generates at most {self.limits.max_inputs}"
            )
        if "duration" in parameters and "num_frames" in parameters:
            raise ValueError("give duration (seconds) or num_frames, not both")
        per_input: dict[str, Sequence[Any]] = {}
        for name, kind, per_second in (("duration", float, 1.0), ("num_frames", int, self.pipe.fps)):
            if name in parameters:
                per_input[name] = per_text(name, parameters[name], len(texts), kind)
                if (longest := max(per_input[name])) > self.limits.max_seconds * per_second:
                    raise ValueError(
                        f"{name}={longest:g} is too long; this server generates at most {self.limits.max_seconds:g} s"
                    )
        if "seed" in parameters:
            per_input["seed"] = per_text("seed", parameters["seed"], len(texts), int)
        else:
            per_input["seed"] = [draw_seed() for _ in texts]
        if "negative_prompt" in parameters:
            negatives = per_text("negative_prompt", parameters["negative_prompt"], len(texts), str)
            per_input["negative_prompt"] = [check_prompt(text, "negative_prompt") for text in negatives]
        output = Output.read(parameters)
        if output.format != "json" and output.rotations:
            raise ValueError("rotations=True is for format='json'; BVH and GLB files contain rotations anyway")
        settings = {name: value for name, value in parameters.items() if name not in (*OUTPUT, *per_input)}
        return Job(texts, settings, per_input, output, size)

    def run(self, jobs: Sequence[Job]) -> list[list[Any]]:
        texts = [text for job in jobs for text in job.inputs]
        per_input = {name: [value for job in jobs for value in job.per_input[name]] for name in jobs[0].per_input}
        with warnings.catch_warnings():  # for the person who started the server they are noise; see `familiarity`
            warnings.simplefilter("ignore", TextToMotionWarning)
            results = self.pipe(texts, **per_input, **jobs[0].settings)
        groups = iter(result if isinstance(result, list) else [result] for result in results)
        return [[result for _ in job.inputs for result in next(groups)] for job in jobs]

    def write(self, job: Job, results: list[Any]) -> Any:
        assert job.output is not None
        motions = [job.output.write(result["motion"]) for result in results]
        if len(motions) == 1 and isinstance(motions[0], MotionFile):
            return motions[0]
        return [
            {**result, "motion": motion.to_dict() if isinstance(motion, MotionFile) else motion}
            for result, motion in zip(results, motions, strict=True)
        ]


class MotionCaptioning(Task):
    """Describes motions in sentences."""

    name = "motion-captioning"
    summary = "Describe motions in sentences"
    parameters: ClassVar[Mapping[str, Schema]] = {
        "window_s": {"type": "number", "description": "Length in seconds of the longest window to caption."},
        "num_beams": {"type": "integer", "minimum": 1, "maximum": 16, "description": "Number of beams."},
        "num_return_sequences": {"type": "integer", "minimum": 1, "maximum": 16, "description": "Captions per window."},
        "max_new_tokens": {"type": "integer", "minimum": 1, "maximum": 256, "description": "Length of a caption."},
        "length_penalty": {"type": "number", "description": "Preference of beam search for long captions."},
        "repetition_penalty": {"type": "number", "description": "Penalty for repeated words."},
    }
    input_schema: ClassVar[Schema] = MOTION
    result_schema: ClassVar[Schema] = {
        "type": "array",
        "description": "Captions of a motion, best first; in order for windows.",
        "items": {
            "type": "object",
            "properties": {
                "caption": {"type": "string"},
                "score": {"type": "number"},
                "start": {"type": "number", "description": "Seconds, for windows."},
                "end": {"type": "number", "description": "Seconds, for windows."},
            },
        },
    }
    example: ClassVar[dict[str, Any]] = {
        "inputs": {"format": "bvh", "content": "SElFUkFSQ0hZCi4uLg=="},
        "parameters": {"num_beams": 4},
    }

    def _job(self, inputs: list[Any], parameters: dict[str, Any]) -> Job:
        return Job([self.pipe.read_motion(read_motion(value, self.limits)) for value in inputs], parameters)

    def run(self, jobs: Sequence[Job]) -> list[list[Any]]:
        [job] = jobs
        return [self.pipe(list(job.inputs), **job.settings)]


class MotionRetrieval(Task):
    """Searches the index of the server."""

    name = "motion-retrieval"
    summary = "Find motions of the index by text or by motion, or captions by motion"
    parameters: ClassVar[Mapping[str, Schema]] = {
        "top_k": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 10, "description": "Number of hits."},
        "target": {"type": "string", "enum": ["motion", "caption"], "description": "What to find."},
        "rerank": {
            "type": ["boolean", "integer"],
            "minimum": 0,
            "maximum": 1000,
            "description": "Number of best hits to reorder with the matching head, or true.",
        },
        "exact": {"type": "boolean", "description": "Compare the query with all rows of the index."},
    }
    input_schema: ClassVar[Schema] = {"anyOf": [{"type": "string", "description": "A text."}, MOTION]}
    result_schema: ClassVar[Schema] = {
        "type": "array",
        "description": "Hits of a query, best first.",
        "items": {
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "file": {"type": ["string", "null"]},
                "score": {"type": "number"},
                "captions": {"type": "array", "items": {"type": "string"}},
                "match": {"type": "number", "description": "With `rerank`, the probability of the matching head."},
            },
        },
    }
    example: ClassVar[dict[str, Any]] = {"inputs": "someone waves", "parameters": {"top_k": 3}}

    def _job(self, inputs: list[Any], parameters: dict[str, Any]) -> Job:
        return Job([self._query(value) for value in inputs], parameters)

    def _query(self, value: Any) -> Any:
        if not isinstance(value, str):
            return read_motion(value, self.limits)
        if Path(value).suffix.lower() in READERS:  # the pipeline would read a file of the server
            raise ValueError(f"{value!r:.80} is the name of a file; send the motion itself, with content and format")
        return check_prompt(value, "inputs")

    def run(self, jobs: Sequence[Job]) -> list[list[Any]]:
        [job] = jobs
        return [self.pipe(list(job.inputs), **job.settings)]


TASKS: Mapping[str, type[Task]] = {task.name: task for task in (TextToMotion, MotionCaptioning, MotionRetrieval)}

_TYPES: Mapping[str, tuple[Any, str]] = {
    "boolean": (bool, "true or false"),
    "integer": (int, "a whole number"),
    "number": ((int, float), "a number"),
    "string": (str, "a text"),
    "array": (list, "a list"),
    "object": (dict, "an object"),
}


def _check_parameter(name: str, value: Any, schema: Schema) -> None:
    """Check a parameter by its schema: type, bounds and choices.

    Raises:
        TypeError: It has the wrong type.
        ValueError: It is out of bounds or unknown.
    """
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(
        isinstance(value, _TYPES[kind][0]) and (kind == "boolean" or (value is not True and value is not False))
        for kind in kinds
    ):
        raise TypeError(f"{name}={value!r:.80} is not {' or '.join(_TYPES[kind][1] for kind in kinds)}")
    if "enum" in schema and value not in schema["enum"]:
        raise ValueError(f"{name}={value!r:.80} is unknown; choose one of {', '.join(schema['enum'])}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        checked_number(name, value)
        least, most = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        if not least <= value <= most:
            bounds = f"at least {least}" if most == math.inf else f"from {least} to {most}"
            raise ValueError(f"{name}={value!r} is not {bounds}")
