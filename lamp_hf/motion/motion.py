"""`Motion`: the one value that flows through everything. (interim)"""

from functools import cached_property

import numpy as np

from .features import features_to_joints, joints_to_features, mirror_joints, resample_joints
from .skeleton import HUMANML3D_22, Skeleton


class Motion:
    def __init__(self, joints=None, features=None, *, fps=20.0, skeleton: Skeleton = HUMANML3D_22, text=None, name=None):
        if features is not None:
            self.__dict__["features"] = features
        if joints is not None:
            self.__dict__["joints"] = joints
        self.fps, self.skeleton, self.text, self.name = fps, skeleton, text, name

    @cached_property
    def joints(self):
        return features_to_joints(self.features, self.skeleton)

    @cached_property
    def features(self):
        return joints_to_features(self.joints, self.skeleton)

    @property
    def num_frames(self):
        return len(self.joints)

    @property
    def duration(self):
        return self.num_frames / self.fps

    def resample(self, fps):
        return Motion(resample_joints(self.joints, self.fps, fps), fps=fps, text=self.text, name=self.name)

    def mirror(self):
        return Motion(mirror_joints(self.joints), fps=self.fps, text=self.text, name=self.name)

    @classmethod
    def load(cls, path, **options):
        from .files import find_reader

        return find_reader(path)(path, **options)
