"""`Motion`: the motion clip that all parts of the package exchange."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lamp_hf.extras import require_pandas
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.features import (
    facing_angles,
    features_to_joints,
    joints_to_features,
    mirror_joints,
    resample_joints,
)
from lamp_hf.motion.files import find_player, find_reader, find_writer
from lamp_hf.motion.limits import MAX_FRAMES, check_fps
from lamp_hf.motion.skeleton import HUMANML3D_22, Skeleton
from lamp_hf.motion.text import swap_sides

if TYPE_CHECKING:
    import pandas

    from lamp_hf.motion.retarget import Character, CharacterMotion

__all__ = ["Motion", "MotionReport"]

_CONTACT_HEIGHT = 0.05  # meters above the clip's floor, as in MDM's and GMD's foot-skating measure
_SLIDE = 0.025  # meters per frame at 20 fps


@dataclass(frozen=True)
class MotionReport:
    """Statistics that show whether a motion is plausible.

    Attributes:
        num_frames: Number of frames.
        duration: Seconds.
        fps: Frames per second.
        distance_m: Length of the root's horizontal path.
        speed_m_per_s: Mean horizontal speed of the root.
        foot_skating: See [`Motion.foot_skating`].
        foot_slide_m_per_s: Mean horizontal speed of feet on the floor.
        jitter: See [`Motion.jitter`].
        lowest_m: Height of the lowest joint in the clip.
    """

    num_frames: int
    duration: float
    fps: float
    distance_m: float
    speed_m_per_s: float
    foot_skating: float
    foot_slide_m_per_s: float
    jitter: float
    lowest_m: float

    def __str__(self) -> str:
        return (
            f"{self.num_frames} frames, {self.duration:.2f} s at {self.fps:g} fps; path {self.distance_m:.2f} m, "
            f"{self.speed_m_per_s:.2f} m/s; feet skate in {self.foot_skating:.1%} of their frames on the floor "
            f"({self.foot_slide_m_per_s:.3f} m/s); jitter {self.jitter:.0f} m/s³; lowest joint {self.lowest_m:+.3f} m"
        )


class Motion:
    """An immutable clip of human motion.

    A motion is created from joint positions or from features. The other representation is computed on first use and
    cached. Features have one frame less than the joints that they are computed from, since they contain velocities.

    Args:
        joints: (T, J, 3), meters, Y up; a body that faces +Z has its left side at +X.
        features: (T, D), not normalized, D = 263 (HumanML3D) or 251 (KIT-ML). Pass joints or features, or both if
            they describe the same clip.
        fps: frames per second.
        skeleton: skeleton of the joints or features.
        text: caption.
        name: name of the motion, such as its file name.
        own_body: whether the bone lengths belong to a particular person and should be kept in BVH and GLB files.
            Defaults to `True` for joints and `False` for features, which all describe the same body. Motions without
            a body of their own are written to files with planted feet, see `plant_feet`.
        final_feet: whether files keep the feet as they are, also without a body of their own. `plant_feet`, `loop` and
            `in_place` return such motions.

    Attributes:
        made_of_joints: Whether joints were passed; if so, features are computed.

    Raises:
        MotionFormatError: neither joints nor features are passed, a shape does not fit the skeleton, there are no
            frames or more than 1,000,000, values are not finite, or the frame rate is not from 1 to 1,000.
    """

    def __init__(
        self,
        joints: ArrayLike | None = None,
        features: ArrayLike | None = None,
        *,
        fps: float = 20.0,
        skeleton: Skeleton = HUMANML3D_22,
        text: str | None = None,
        name: str | None = None,
        own_body: bool | None = None,
        final_feet: bool = False,
    ) -> None:
        if joints is None and features is None:
            raise MotionFormatError("a Motion needs joints (T, J, 3) or features (T, D); neither was passed")
        self.fps = check_fps(fps)
        self.skeleton = skeleton
        self.text = text
        self.name = name
        if joints is not None:
            self.__dict__["joints"] = _frozen(joints, (skeleton.num_joints, 3), "joints", skeleton)
        if features is not None:
            self.__dict__["features"] = _frozen(features, (skeleton.feature_dim,), "features", skeleton)
        self.made_of_joints = joints is not None
        self.own_body = self.made_of_joints if own_body is None else bool(own_body)
        self.final_feet = bool(final_feet)
        self._ready = True

    def __setattr__(self, name: str, value: object) -> None:
        if getattr(self, "_ready", False):
            raise AttributeError(f"Motion is immutable: {name} cannot be set")
        super().__setattr__(name, value)

    @cached_property
    def joints(self) -> np.ndarray:
        """Joint positions (T, J, 3), float32, meters."""
        return _read_only(_finite(features_to_joints(self.features, self.skeleton), "joints of these features"))

    @cached_property
    def features(self) -> np.ndarray:
        """Features (T, D), or (T - 1, D) if computed from joints; float32, not normalized.

        They describe a body with the bone lengths of the data set that starts at the origin, facing +Z.
        """
        return _read_only(_finite(joints_to_features(self.joints, self.skeleton), "features of these joints"))

    @cached_property
    def rotations(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Local rotations of all joints, from inverse kinematics on a skeleton with constant bone lengths.

        Returns:
            Quaternions (T, J, 4) (w, x, y, z); root positions (T, 3), meters; offsets (J, 3), meters, from the parent
            in the rest pose.
        """
        from lamp_hf.motion.kinematics import inverse_kinematics

        return inverse_kinematics(self.joints, self.skeleton)

    @property
    def num_frames(self) -> int:
        """Number of frames T."""
        return len(self.joints if self.made_of_joints else self.features)

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return self.num_frames / self.fps

    # ---- new motions --------------------------------------------------------------------------------------

    def _with(self, **changes: Any) -> "Motion":
        values = {key: getattr(self, key) for key in ("fps", "skeleton", "text", "name", "own_body", "final_feet")}
        return Motion(**{**values, **changes})

    def with_text(self, text: str | None) -> "Motion":
        """Return the same motion with another caption."""
        if self.made_of_joints:
            return self._with(joints=self.joints, text=text)
        return self._with(features=self.features, text=text)

    def resample(self, fps: float) -> "Motion":
        """Return the motion at another frame rate, with linearly interpolated joints.

        Returns the motion itself if the frame rate is the same.

        Raises:
            MotionFormatError: the frame rate is not from 1 to 1,000, or the result would exceed 1,000,000 frames.
        """
        fps = check_fps(fps)
        if fps == self.fps:
            return self
        if self.duration * fps > MAX_FRAMES:
            raise MotionFormatError(
                f"{self.duration:g} s at {fps:g} fps are {self.duration * fps:.0f} frames; at most {MAX_FRAMES} are "
                "allowed (crop the motion, or choose a lower rate)"
            )
        return self._with(joints=resample_joints(self.joints, self.fps, fps), fps=fps)

    def mirror(self) -> "Motion":
        """Return the motion with left and right swapped, in the body and in the caption."""
        text = None if self.text is None else swap_sides(self.text)
        return self._with(joints=mirror_joints(self.joints, self.skeleton), text=text)

    def crop(self, start: float = 0.0, end: float | None = None) -> "Motion":
        """Return the part from `start` to `end`, in seconds.

        Raises:
            ValueError: the part is empty or extends beyond the motion.
        """
        stop = self.duration if end is None else end
        first, last = round(start * self.fps), round(stop * self.fps)
        if not 0 <= first < last <= self.num_frames:
            raise ValueError(
                f"cannot crop {start:g} s to {stop:g} s of a motion of {self.duration:g} s: expected "
                f"0 ≤ start < end ≤ {self.duration:g}"
            )
        if self.made_of_joints:
            return self._with(joints=self.joints[first:last])
        return self._with(features=self.features[first:last])

    def plant_feet(self) -> "Motion":
        """Return the motion with planted feet: feet that stand on the floor stay in place instead of sliding.

        Heels and toes are fixed while they are in contact with the floor, the legs follow by inverse kinematics, and
        the body moves by less than 2 cm; see `lamp_hf.motion.feet`. Feet in the air and the rest of the body keep their
        motion.

        Returns:
            A motion made of joints, with the same number of frames. Joints are unchanged if no foot is planted.

        Example:

        ```python
        >>> import numpy as np
        >>> from lamp_hf import Motion
        >>> from lamp_hf.motion.kinematics import default_body, forward_kinematics
        >>> from lamp_hf.motion.skeleton import HUMANML3D_22

        >>> rotations = np.tile([1.0, 0.0, 0.0, 0.0], (60, 22, 1))
        >>> drift = np.linspace([0.0, 0.95, 0.0], [0.05, 0.95, 0.0], 60)  # 5 cm sideways in 3 seconds
        >>> motion = Motion(forward_kinematics(rotations, drift, default_body(), HUMANML3D_22.parents))
        >>> planted = motion.plant_feet()
        >>> for clip in (motion, planted):
        ...     print(f"{np.ptp(clip.joints[:, 7, 0]) * 100:.1f} cm")
        5.0 cm
        0.0 cm

        ```
        """
        from lamp_hf.motion.feet import plant_joints

        planted = plant_joints(self.joints, self.fps, self.skeleton, plants=self.foot_plants())
        return self._with(joints=planted, final_feet=True)

    def _with_final_feet(self, plant_feet: bool | None) -> "Motion":
        """Return the motion with the feet that its files show; by default, those of generated motions are planted."""
        if self.final_feet:
            return self
        if not self.own_body if plant_feet is None else plant_feet:
            return self.plant_feet()
        return self._with(joints=self.joints, final_feet=True)

    def loop(self, *, root_motion: bool | None = None, plant_feet: bool | None = None) -> "Motion":
        """Return the motion as a seamless loop.

        The last frame has the pose and the velocity of the first one. The clip is cut where its ends match best, to at
        least half of its length, and the last frames are blended into the first; see `lamp_hf.motion.loops`. Resample a
        motion before, not after.

        Args:
            root_motion: whether each repetition continues where the last one ended, as the root motion of game engines
                does. Otherwise the body returns to its start. Defaults to `True` if the body ends more than 20 cm away
                from its start or turned by more than 20 degrees.
            plant_feet: whether to plant the feet first, which would break the loop later. Defaults to `True` for
                generated motions, `False` for recordings.

        Returns:
            A motion made of joints, whose files keep its feet as they are.

        Raises:
            ValueError: the motion has fewer than 4 frames.
        """
        from lamp_hf.motion.loops import SHORTEST_LOOP, loop_joints

        if self.num_frames < SHORTEST_LOOP:
            raise ValueError(f"a motion of {self.num_frames} frames cannot loop; at least {SHORTEST_LOOP} are needed")
        ready = self._with_final_feet(plant_feet)
        return ready._with(joints=loop_joints(ready.joints, self.fps, self.skeleton, root_motion=root_motion))

    def in_place(self, *, plant_feet: bool | None = None) -> "Motion":
        """Return the motion in place: the root stays where it is in the first frame, and only its height changes.

        The body keeps its pose and still turns. Game engines move such a character themselves.

        Args:
            plant_feet: whether to plant the feet first, because a foot that walks in place slides. Defaults to `True`
                for generated motions, `False` for recordings.

        Returns:
            A motion made of joints, whose files keep its feet as they are.
        """
        ready = self._with_final_feet(plant_feet)
        joints = ready.joints.astype(np.float64)  # in float32, the root would move by rounding errors
        return ready._with(joints=joints - (joints[:, :1] - joints[:1, :1]) * [1.0, 0.0, 1.0])

    def to_origin(self) -> "Motion":
        """Return the motion moved and turned on the floor: the first frame is above the origin and faces +Z.

        Heights do not change.
        """
        from lamp_hf.motion.loops import turn_about_up

        joints = self.joints.astype(np.float64)
        joints -= joints[:1, :1] * [1.0, 0.0, 1.0]
        return self._with(joints=turn_about_up(joints, -facing_angles(joints[0], self.skeleton)))

    def adjust(
        self,
        *,
        fps: float | None = None,
        mirror: bool = False,
        loop: bool = False,
        in_place: bool = False,
        origin: bool = False,
        plant_feet: bool | None = None,
    ) -> "Motion":
        """Return the motion with several changes, in the order in which none of them spoils another one.

        Args:
            fps: frame rate to resample to, see `resample`.
            mirror: whether to swap left and right, see `mirror`.
            loop: whether to make a seamless loop, see `loop`.
            in_place: whether the root stays in place, see `in_place`.
            origin: whether to start at the origin, facing +Z, see `to_origin`.
            plant_feet: as for `loop` and `in_place`. Otherwise not used, since `save` plants feet itself.

        Returns:
            The motion itself if nothing changes.

        Raises:
            MotionFormatError: as `resample`.
            ValueError: as `loop`.

        Example:

        ```python
        >>> import numpy as np
        >>> from lamp_hf import HUMANML3D_22, Motion
        >>> from lamp_hf.motion.kinematics import default_body, forward_kinematics

        >>> rotations = np.tile([1.0, 0.0, 0.0, 0.0], (40, 22, 1))
        >>> path = np.linspace([5.0, 0.95, 0.0], [7.0, 0.95, 0.0], 40)  # 2 meters sideways in 2 seconds
        >>> motion = Motion(forward_kinematics(rotations, path, default_body(), HUMANML3D_22.parents))
        >>> still = motion.adjust(in_place=True, origin=True)
        >>> still.joints[[0, -1], 0].tolist() == [[0.0, motion.joints[0, 0, 1], 0.0]] * 2
        True

        ```
        """
        motion = self if fps is None else self.resample(fps)
        if mirror:
            motion = motion.mirror()
        if loop:
            motion = motion.loop(plant_feet=plant_feet)
        if in_place:
            motion = motion.in_place(plant_feet=plant_feet)
        return motion.to_origin() if origin else motion

    def on(
        self, character: "Character | str | os.PathLike[str]", *, plant_feet: bool | None = None
    ) -> "CharacterMotion":
        """Retarget the motion onto a character: a figure with its own joints, proportions and rest pose.

        The bones of the character keep their lengths. The directions of limbs, spine and head and the facing of hips
        and chest are those of the motion, and the path is scaled with the length of the legs.

        Args:
            character: a [`Character`], the path of a .glb, .vrm or .bvh file, or the name of a rig: `mixamo`,
                `unreal`, `unity`, `vrm`, `rigify` or `smpl`.
            plant_feet: whether feet that stand on the floor stay in place. Defaults to `True`, but to `False` for a
                motion with `final_feet`, such as a loop, which planting would break.

        Returns:
            The motion on the character; save it with `.save("hero_wave.glb")`.

        Raises:
            FileNotFoundError: the file does not exist.
            MotionFormatError: the file does not contain the joints of a person.
            ValueError: the rig is unknown.

        Example:

        ```python
        >>> import numpy as np
        >>> from lamp_hf import Motion
        >>> from lamp_hf.motion.kinematics import default_body, forward_kinematics
        >>> from lamp_hf.motion.skeleton import HUMANML3D_22

        >>> rotations = np.tile([1.0, 0.0, 0.0, 0.0], (20, 22, 1))
        >>> root = np.tile([0.0, 0.95, 0.0], (20, 1))
        >>> motion = Motion(forward_kinematics(rotations, root, default_body(), HUMANML3D_22.parents))
        >>> motion.on("unreal")
        CharacterMotion('unreal', 20 frames, 1.00 s, 20 fps)

        ```
        """
        from lamp_hf.motion.retarget import Character, retarget

        if not isinstance(character, Character):
            character = Character.find(character)
        return retarget(self, character, plant_feet=not self.final_feet if plant_feet is None else plant_feet)

    # ---- figures ------------------------------------------------------------------------------------------

    def _foot_slides(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the horizontal speed of ankles and toes in m/s, and whether they are on the floor; (T - 1, 4) each."""
        feet = self.joints[:, list(self.skeleton.contact_joints)]
        speed = np.linalg.norm(np.diff(feet[..., ::2], axis=0), axis=-1) * self.fps
        height = feet[..., 1] - self.joints[..., 1].min()
        # Ankles are higher than toes, so heights are relative to each joint's own lowest position.
        height = height - height.min(axis=0)
        return speed, np.maximum(height[1:], height[:-1]) < _CONTACT_HEIGHT

    def foot_skating(self) -> float:
        """Compute the fraction of frames on the floor in which the feet slide.

        A foot joint is on the floor if it is within 5 cm of its own lowest position, and slides if it moves faster than
        0.5 m/s (2.5 cm per frame at 20 fps), after Karunratanakul et al., GMD, section 5.
        """
        speed, down = self._foot_slides()
        return float((speed[down] > _SLIDE * 20.0).mean()) if down.any() else 0.0

    def foot_plants(self) -> np.ndarray:
        """Find the points of the feet that stand on the floor, which `plant_feet` keeps in place.

        Returns:
            (T, 4), boolean: left heel, left toe, right heel and right toe. With HumanML3D's joints, the heel is the
            ankle.
        """
        from lamp_hf.motion.feet import find_plants

        labels = None if self.made_of_joints else self.features[:, -4:]
        return find_plants(self.joints, self.fps, self.skeleton, labels=labels)

    def jitter(self) -> float:
        """Compute the mean magnitude of the third derivative of the joint positions, in m/s³."""
        if self.num_frames < 4:
            return 0.0
        return float(np.linalg.norm(np.diff(self.joints, 3, axis=0), axis=-1).mean()) * self.fps**3

    def report(self) -> MotionReport:
        """Compute statistics that show whether the motion is plausible; the report prints as one line."""
        steps = np.linalg.norm(np.diff(self.joints[:, 0, ::2], axis=0), axis=-1)
        speed, down = self._foot_slides()
        return MotionReport(
            num_frames=self.num_frames,
            duration=self.duration,
            fps=self.fps,
            distance_m=float(steps.sum()),
            speed_m_per_s=float(steps.mean()) * self.fps if len(steps) else 0.0,
            foot_skating=self.foot_skating(),
            foot_slide_m_per_s=float(speed[down].mean()) if down.any() else 0.0,
            jitter=self.jitter(),
            lowest_m=float(self.joints[..., 1].min()),
        )

    # ---- other programs -----------------------------------------------------------------------------------

    def to_dict(self, *, rotations: bool = False) -> dict[str, Any]:
        """Return the motion as a dictionary of numbers, texts and lists, which JSON can store.

        Args:
            rotations: whether to include `rotations`, which takes longer.

        Returns:
            `fps`, `skeleton` (its name), `joint_names` (J), `parents` (J), `text`, `name`, and `positions` (T, J, 3) in
            meters; with `rotations`, also `rotations` (T, J, 4), `root_positions` (T, 3) and `offsets` (J, 3).
        """
        values = {
            "fps": self.fps,
            "skeleton": self.skeleton.name,
            "joint_names": list(self.skeleton.joint_names),
            "parents": list(self.skeleton.parents),
            "text": self.text,
            "name": self.name,
            "positions": self.joints.tolist(),
        }
        if rotations:
            names = ("rotations", "root_positions", "offsets")
            values |= {name: array.tolist() for name, array in zip(names, self.rotations, strict=True)}
        return values

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the joint positions as a table, one row per frame.

        Returns:
            A table whose index is `time`, in seconds. Its columns are pairs of `joint` and `axis`, such as
            `("left_wrist", "y")`, in meters. `attrs` has `fps`, `skeleton` and `text`.

        Raises:
            ImportError: pandas is not installed.
        """
        require_pandas()
        import pandas

        columns = pandas.MultiIndex.from_product([self.skeleton.joint_names, list("xyz")], names=["joint", "axis"])
        time = pandas.Index(np.arange(self.num_frames) / self.fps, name="time")
        table = pandas.DataFrame(self.joints.reshape(self.num_frames, -1), index=time, columns=columns)
        table.attrs |= {"fps": self.fps, "skeleton": self.skeleton.name, "text": self.text}
        return table

    # ---- files --------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> "Motion":
        """Load a motion from a .bvh, .npy, .npz, .glb, .gltf, .vrma or .vrm file.

        Args:
            path: the file; its suffix selects the reader.
            **options: all readers accept `mapping`, `fps`, `unit`, `up_axis` and `strict`. By default, joints, frame
                rate, unit and up axis are detected and logged.

        Raises:
            FileNotFoundError: the file does not exist.
            MotionFormatError: the file does not contain a usable motion.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file")
        motion = find_reader(path)(path, **options)
        assert isinstance(motion, Motion)
        return motion

    def save(self, path: str | os.PathLike[str], *, fps: float | None = None, **options: Any) -> Any:
        """Save the motion as a .bvh, .glb, .npz, .npy, .gif, .mp4, .png or .html file.

        Args:
            path: the file; its suffix selects the writer.
            fps: frames per second of the file; defaults to the motion's (at most 50 for a GIF).
            **options: options of the writer. All writers except NPY and NPZ accept `plant_feet`, whether to keep feet
                that stand on the floor in place; defaults to `True` for generated motions, `False` for recordings. The
                writers of files that show a body accept `style`, "mannequin" or "skeleton".

        Returns:
            The writer's report, if it has one: for BVH, the error due to constant bone lengths.
        """
        write = find_writer(path)
        return write(self if fps is None else self.resample(fps), path, **options)

    def _repr_html_(self) -> str:
        return find_player()(self)

    def __repr__(self) -> str:
        text = f", text={self.text!r}" if self.text is not None else ""
        return f"Motion({self.num_frames} frames, {self.duration:.2f} s, {self.fps:g} fps, {self.skeleton.name}{text})"

    def __eq__(self, other: object) -> bool:
        """Return whether both motions have the same frames, frame rate, skeleton and caption; names are ignored."""
        if not isinstance(other, Motion):
            return NotImplemented
        same = (self.fps, self.skeleton.name, self.text) == (other.fps, other.skeleton.name, other.text)
        if not same:
            return False
        if not self.made_of_joints and not other.made_of_joints:
            return np.array_equal(self.features, other.features)
        return np.array_equal(self.joints, other.joints)

    __hash__ = None  # type: ignore[assignment]


def _finite(array: np.ndarray, what: str) -> np.ndarray:
    if not np.isfinite(array).all():
        raise MotionFormatError(f"the {what} are not finite (damaged values?)")
    return array


def _frozen(values: ArrayLike, frame: tuple[int, ...], what: str, skeleton: Skeleton) -> np.ndarray:
    array = np.array(values, dtype=np.float32)
    if array.ndim != 1 + len(frame) or array.shape[1:] != frame:
        expected = ", ".join(("frames", *map(str, frame)))
        raise MotionFormatError(
            f"expected {what} of shape ({expected}) for the skeleton {skeleton.name}, found {array.shape}"
        )
    if not len(array):
        raise MotionFormatError(f"the {what} have no frames")
    if len(array) > MAX_FRAMES:
        raise MotionFormatError(f"the {what} have {len(array)} frames; at most {MAX_FRAMES} are allowed")
    if not np.isfinite(array).all():
        frame_index = int(np.argmin(np.isfinite(array.reshape(len(array), -1)).all(axis=1)))
        raise MotionFormatError(f"the {what} contain values that are not finite, first in frame {frame_index}")
    return _read_only(array)


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
