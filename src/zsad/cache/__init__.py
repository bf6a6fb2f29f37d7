"""Frozen features on disk: each image goes once through the tower, for all trainings that can share what it says."""

from zsad.cache.keys import about, sample_keys
from zsad.cache.space import Space
from zsad.cache.store import LIMIT, FeatureCache, SpaceInfo

__all__ = ["LIMIT", "FeatureCache", "Space", "SpaceInfo", "about", "sample_keys"]
