"""Prism in PyTorch: the model, its losses, its files, and the kernels it runs on."""

from prism_ray.model.backbone import set_kernel
from prism_ray.model.checkpoint import load, save
from prism_ray.model.interface import InputShape, Output, Paths, TrainedOn, check_names
from prism_ray.model.losses import Losses, prism_loss
from prism_ray.model.parameters import count_parameters, parameter_groups
from prism_ray.model.prism import Prism
from prism_ray.model.scan import available_kernels, selective_scan

__all__ = [
    "InputShape",
    "Losses",
    "Output",
    "Paths",
    "Prism",
    "TrainedOn",
    "available_kernels",
    "check_names",
    "count_parameters",
    "load",
    "parameter_groups",
    "prism_loss",
    "save",
    "selective_scan",
    "set_kernel",
]
