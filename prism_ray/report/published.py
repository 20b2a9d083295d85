"""Published numbers of the benchmark, as data, to be shown beside ours where the same data and fold were used.

Sources: Prism, arXiv 2602.21550; all other models, arXiv 2502.13991. All of them are on fold 11 (test chr22 and chrX),
label log10(1 + CAGE), mean and standard deviation over five seeds; None where a number could not be confirmed.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from prism_ray.tracking.headers import StudyHeader

BENCHMARK = "geneexp"
"""`StudyHeader.benchmark` of the data these numbers were measured on."""
FOLD = "fold_11"
LABEL = "published, fold 11"
PRISM = "arXiv 2602.21550"
SEQ2EXP = "arXiv 2502.13991"

MeanStd = tuple[float, float | None]


@dataclass(frozen=True)
class Published:
    """A published row.

    Attributes:
        model: as its paper calls it.
        cell_type: cells of the label.
        mse, mae, pearson_r: mean and standard deviation; None where not known.
        source: paper.
        n_states: background states, for the rows of Prism.
    """

    model: str
    cell_type: str
    mse: MeanStd
    mae: MeanStd | None
    pearson_r: MeanStd | None
    source: str
    n_states: int | None = None


def _seq2exp(model: str, k562: tuple[float, ...], gm12878: tuple[float, ...]) -> list[Published]:
    """Rows of both cell types: MSE, MAE and r, each as mean and standard deviation."""
    return [
        Published(model, cell_type, (row[0], row[1]), (row[2], row[3]), (row[4], row[5]), SEQ2EXP)
        for cell_type, row in (("K562", k562), ("GM12878", gm12878))
    ]


PUBLISHED: tuple[Published, ...] = (
    *_seq2exp(
        "Enformer, from scratch, 200 kb",
        (0.2920, 0.0050, 0.4056, 0.0040, 0.7961, 0.0019),
        (0.2889, 0.0009, 0.4185, 0.0013, 0.8327, 0.0025),
    ),
    *_seq2exp(
        "HyenaDNA 200 kb",
        (0.2265, 0.0013, 0.3497, 0.0012, 0.8425, 0.0008),
        (0.2217, 0.0018, 0.3562, 0.0012, 0.8729, 0.0010),
    ),
    *_seq2exp(
        "Mamba 200 kb",
        (0.2241, 0.0027, 0.3416, 0.0026, 0.8412, 0.0021),
        (0.2145, 0.0021, 0.3446, 0.0022, 0.8788, 0.0011),
    ),
    *_seq2exp(
        "Caduceus 200 kb",
        (0.2197, 0.0038, 0.3327, 0.0070, 0.8475, 0.0014),
        (0.2124, 0.0037, 0.3436, 0.0031, 0.8819, 0.0009),
    ),
    *_seq2exp(
        "Caduceus with signals 200 kb",
        (0.1959, 0.0036, 0.3187, 0.0036, 0.8630, 0.0008),
        (0.1942, 0.0058, 0.3269, 0.0048, 0.8928, 0.0017),
    ),
    *_seq2exp(
        "EPInformer",
        (0.2140, 0.0042, 0.3291, 0.0031, 0.8473, 0.0017),
        (0.1975, 0.0031, 0.3246, 0.0025, 0.8907, 0.0011),
    ),
    *_seq2exp(
        "MACS3 mask 200 kb",
        (0.2195, 0.0023, 0.3455, 0.0018, 0.8435, 0.0013),
        (0.2340, 0.0028, 0.3654, 0.0017, 0.8634, 0.0020),
    ),
    *_seq2exp(
        "Seq2Exp-hard 200 kb",
        (0.1863, 0.0051, 0.3074, 0.0036, 0.8682, 0.0045),
        (0.1890, 0.0045, 0.3199, 0.0040, 0.8916, 0.0027),
    ),
    *_seq2exp(
        "Seq2Exp-soft 200 kb",
        (0.1856, 0.0032, 0.3054, 0.0024, 0.8723, 0.0012),
        (0.1873, 0.0044, 0.3137, 0.0028, 0.8951, 0.0038),
    ),
    Published("Prism n=0, 2 kb", "K562", (0.1863, None), None, None, PRISM, n_states=0),
    Published("Prism n=1, 2 kb", "K562", (0.1891, None), None, None, PRISM, n_states=1),
    Published("Prism n=2, 2 kb", "K562", (0.1789, 0.0041), None, (0.8751, None), PRISM, n_states=2),
    Published("Prism n=4, 2 kb", "K562", (0.1762, 0.0071), None, None, PRISM, n_states=4),
    Published("Prism n=2, 2 kb", "GM12878", (0.1759, None), None, (0.9016, 0.0024), PRISM, n_states=2),
)


def published_for(header: StudyHeader, cell_type: str) -> pd.DataFrame:
    """Published rows that a study's numbers may stand beside; no row unless it ran on that benchmark and fold alone.

    Columns: model, mse, mae, pearson_r (text, mean with standard deviation), source.
    """
    comparable = header.benchmark == BENCHMARK and header.folds == (FOLD,)
    rows = [row for row in PUBLISHED if comparable and row.cell_type == cell_type]
    return pd.DataFrame(
        {
            "model": [row.model for row in rows],
            "mse": [_text(row.mse) for row in rows],
            "mae": [_text(row.mae) for row in rows],
            "pearson_r": [_text(row.pearson_r) for row in rows],
            "source": [f"{LABEL}, {row.source}" for row in rows],
        }
    )


def _text(value: MeanStd | None) -> str:
    if value is None:
        return "not known"
    mean, std = value
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"
