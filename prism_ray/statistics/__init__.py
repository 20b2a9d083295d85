"""Arms compared: over runs, over genes, over both; what could have been found; what may be concluded."""

from prism_ray.statistics.equivalence import Equivalence, equivalence_test
from prism_ray.statistics.genes import (
    GeneEffect,
    gene_and_run_effects,
    gene_effect,
    gene_effects,
    run_and_gene_effect,
)
from prism_ray.statistics.power import POWER, EffectSize, effect_size, minimal_detectable_effect, pairs_needed
from prism_ray.statistics.resampled import FoldPredictions
from prism_ray.statistics.runs import (
    LEVEL,
    PairedEffect,
    SignTest,
    Summary,
    holm,
    one_standard_error,
    paired_differences,
    paired_effect,
    probability_of_improvement,
    sign_test,
    summarize,
)
from prism_ray.statistics.verdicts import Expectation, Judgement, Verdict, judge

__all__ = [
    "LEVEL",
    "POWER",
    "EffectSize",
    "Equivalence",
    "Expectation",
    "FoldPredictions",
    "GeneEffect",
    "Judgement",
    "PairedEffect",
    "SignTest",
    "Summary",
    "Verdict",
    "effect_size",
    "equivalence_test",
    "gene_and_run_effects",
    "gene_effect",
    "gene_effects",
    "holm",
    "judge",
    "minimal_detectable_effect",
    "one_standard_error",
    "paired_differences",
    "paired_effect",
    "pairs_needed",
    "probability_of_improvement",
    "run_and_gene_effect",
    "sign_test",
    "summarize",
]
