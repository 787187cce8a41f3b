"""`Hierarchy`: the joints of a file, what a rig is recognized by."""

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np

__all__ = ["Hierarchy", "depth_first"]


class Hierarchy:
    """Joint names, parents and poses of a file: what a mapping is resolved against.

    Args:
        joint_names: (J,); End Sites end with " End".
        parents: (J,) index of each joint's parent, -1 for a root; parents precede their children.
        positions: (J, 3) at the first frame, or (F, J, 3) at several frames, in the file's unit.
        rest_positions: (J, 3) at rest, where the file has a rest pose.
    """

    def __init__(
        self,
        joint_names: Sequence[str],
        parents: Sequence[int],
        positions: np.ndarray,
        rest_positions: np.ndarray | None = None,
    ) -> None:
        self.joint_names = tuple(joint_names)
        self.parents = tuple(parents)
        self.poses = positions if positions.ndim == 3 else positions[None]
        self.positions = self.poses[0]
        self.rest_positions = rest_positions
        # Where all joints share a prefix such as "Character1_" it says nothing about a joint.
        prefix = re.match(r"(.*[_:.\s-])?", _common_prefix(self.joint_names))
        skip = len(prefix[0]) if prefix and len(self.joint_names) > 1 else 0
        self._plain: dict[str, int] = {}
        for index, name in enumerate(self.joint_names):
            self._plain.setdefault(_plain(name[skip:]), index)
        self._exact = {name: index for index, name in enumerate(self.joint_names)}

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """The joints that hang on each joint."""
        children: list[list[int]] = [[] for _ in self.parents]
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                children[parent].append(joint)
        return tuple(map(tuple, children))

    @cached_property
    def end_sites(self) -> frozenset[int]:
        """Indices of End Sites."""
        return frozenset(
            k
            for k, name in enumerate(self.joint_names)
            if not self.children[k] and re.search(r" End( \d+| #\d+)*$", name)
        )

    @cached_property
    def _ancestors(self) -> tuple[frozenset[int], ...]:
        ancestors: list[frozenset[int]] = []
        for parent in self.parents:
            ancestors.append(ancestors[parent] | {parent} if parent >= 0 else frozenset())
        return tuple(ancestors)

    def find(self, name: str) -> int | None:
        """Index of a joint by its exact name, else by its plain name; None where there is no such joint."""
        return self._exact.get(name, self._plain.get(_plain(name)))

    def is_above(self, ancestor: int, joint: int) -> bool:
        """Whether a joint is `ancestor` or hangs on it, directly or not."""
        return ancestor == joint or ancestor in self._ancestors[joint]

    def lowest_common(self, joints: Sequence[int]) -> int | None:
        """The joint on which all of these hang that is closest to them; None if there is none."""
        shared = frozenset.intersection(*(self._ancestors[joint] for joint in joints))
        return max(shared, key=lambda joint: len(self._ancestors[joint]), default=None)

    def depth(self, joint: int) -> int:
        """Number of joints above a joint."""
        return len(self._ancestors[joint])

    def path(self, ancestor: int, joint: int) -> list[int]:
        """Joints from an ancestor down to a joint, both included; these two if one is not above the other."""
        path = [joint]
        while path[-1] != ancestor:
            parent = self.parents[path[-1]]
            if parent < 0:
                return [ancestor, joint]
            path.append(parent)
        return path[::-1]


def _common_prefix(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    length = next((k for k in range(len(first)) if first[k : k + 1] != last[k : k + 1]), len(first))
    return first[:length]


@lru_cache(maxsize=4096)
def _plain(name: str) -> str:
    """Reduce a joint name to what identifies it: "mixamorig:Left_UpLeg" becomes "leftupleg"."""
    name = re.sub(r"^mixamorig\d*", "", name.rpartition(":")[2].strip(), flags=re.IGNORECASE)
    return re.sub(r"[\s_.-]+", "", name).lower()


def depth_first(parents: Sequence[int]) -> list[int]:
    """Return the joints in an order where each is followed by its whole subtree, as BVH files list them."""
    order: list[int] = []
    stack = [joint for joint in range(len(parents)) if parents[joint] < 0][::-1]
    while stack:
        joint = stack.pop()
        order.append(joint)
        stack += [child for child in range(len(parents)) if parents[child] == joint][::-1]
    return order
