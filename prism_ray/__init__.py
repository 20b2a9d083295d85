"""prism-ray: Ray-distributed hyperparameter and ablation studies of the Prism gene-expression model."""

__version__ = "0.1.0"
