"""Experiments, the Python files that define them, and their JSON form in workdirs."""

from vqdit.config.differences import Difference, differences
from vqdit.config.experiment import Experiment, NonFinite, Profile, Timeouts
from vqdit.config.files import Config, load, shipped
from vqdit.config.serialization import PARTS, ConfigError, from_json, to_json

__all__ = [
    "PARTS",
    "Config",
    "ConfigError",
    "Timeouts",
    "Difference",
    "Experiment",
    "NonFinite",
    "Profile",
    "differences",
    "from_json",
    "load",
    "shipped",
    "to_json",
]
