"""`Hierarchy`: the joints of a file, from which its rig is recognized."""

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np

__all__ = ["Hierarchy", "depth_first"]


class Hierarchy:
    """Joint names, parents and poses of a file, against which a mapping is resolved.

    Args:
        joint_names: (J,); names of End Sites end with " End".
        parents: (J,) index of each joint's parent, -1 for a root; parents precede their children.
        positions: (J, 3) in the first frame, or (F, J, 3) in several frames, in the file's unit.
        rest_positions: (J, 3) in the rest pose, if the file has one.
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
        # A prefix that all joints share, such as "Character1_", carries no information.
        prefix = re.match(r"(.*[_:.\s-])?", _common_prefix(self.joint_names))
        skip = len(prefix[0]) if prefix and len(self.joint_names) > 1 else 0
        self._plain: dict[str, int] = {}
        for index, name in enumerate(self.joint_names):
            self._plain.setdefault(_plain(name[skip:]), index)
        self._exact = {name: index for index, name in enumerate(self.joint_names)}

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """Children of each joint."""
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
        """Return the index of a joint by its exact name, else by its plain name; None if there is no such joint."""
        return self._exact.get(name, self._plain.get(_plain(name)))

    def is_above(self, ancestor: int, joint: int) -> bool:
        """Return whether a joint is `ancestor` or one of its descendants."""
        return ancestor == joint or ancestor in self._ancestors[joint]

    def lowest_common(self, joints: Sequence[int]) -> int | None:
        """Return the closest common ancestor of the joints; None if there is none."""
        shared = frozenset.intersection(*(self._ancestors[joint] for joint in joints))
        return max(shared, key=lambda joint: len(self._ancestors[joint]), default=None)

    def depth(self, joint: int) -> int:
        """Return the number of ancestors of a joint."""
        return len(self._ancestors[joint])

    def path(self, ancestor: int, joint: int) -> list[int]:
        """Return the joints from an ancestor down to a joint, both included; only these two if they are unrelated."""
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
    """Reduce a joint name to its identifying part: "mixamorig:Left_UpLeg" becomes "leftupleg"."""
    name = re.sub(r"^mixamorig\d*", "", name.rpartition(":")[2].strip(), flags=re.IGNORECASE)
    return re.sub(r"[\s_.-]+", "", name).lower()


def depth_first(parents: Sequence[int]) -> list[int]:
    """Return the joints in depth-first order, as BVH files list them."""
    order: list[int] = []
    stack = [joint for joint in range(len(parents)) if parents[joint] < 0][::-1]
    while stack:
        joint = stack.pop()
        order.append(joint)
        stack += [child for child in range(len(parents)) if parents[child] == joint][::-1]
    return order
