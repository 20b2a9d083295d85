from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cooler
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from prism_ray.errors import ConfigError, InputError
from prism_ray.features.catalog import check_catalog, load_catalog
from prism_ray.features.sequence import open_sequence
from prism_ray.features.signals import open_signal
from prism_ray.features.simulate import SimulationConfig, simulate, simulation_config
from prism_ray.features.simulate_model import MOTIFS


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulate") / "genome"
    simulate(out, SimulationConfig())
    return out


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulate") / "shifted"
    simulate(out, SimulationConfig(test_confounding=-1.0))
    return out


def truth_of(folder: Path, cell: str = "K562") -> pd.DataFrame:
    truth = pd.read_csv(folder / "truth.tsv", sep="\t")
    return truth[truth["cell_type"] == cell].reset_index(drop=True)


def features(folder: Path, names: tuple[str, ...], window_bp: int = 2000) -> dict[str, np.ndarray]:
    """Mean of each signal in the window as stored, (N,), in the order of the truth."""
    catalog = load_catalog(folder / "catalog.yaml")
    truth = truth_of(folder)
    found = {}
    for name in names:
        source = catalog.cell_types["K562"].signals[name]
        means = np.zeros(len(truth))
        with open_signal(source, catalog.resolve(source.file)) as reader:
            for chrom, part in truth.groupby("chrom"):
                means[part.index] = reader.windows(str(chrom), part["tss"].to_numpy(), window_bp).values.mean(axis=1)
        found[name] = means
    return found


def least_squares(inputs: list[np.ndarray], target: np.ndarray) -> np.ndarray:
    design = np.column_stack([np.ones(len(target)), *inputs])
    return np.linalg.lstsq(design, target, rcond=None)[0]


def test_size_and_parts(genome: Path) -> None:
    data = check_catalog(load_catalog(genome / "catalog.yaml"), 8000)
    assert len(data.cell_types) == 2
    assert len(data.chrom_sizes) == 8
    assert {len(cell.genes) for cell in data.cell_types.values()} == {400}
    assert sum(path.stat().st_size for path in genome.iterdir()) < 30e6
    assert (genome / "genome.fa.fai").exists()
    assert data.folds.roles("fold_1")["chr1"] == "validation"
    assert data.folds.roles("fold_1")["chr2"] == "test"
    assert data.folds.roles("fold_8")["chr1"] == "test"


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    config = SimulationConfig(genes=24, chromosomes=6)
    simulate(tmp_path / "a", config)
    time.sleep(1.1)  # formats that store a time of writing store seconds
    simulate(tmp_path / "b", config)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    simulate(tmp_path / "c", SimulationConfig(genes=24, chromosomes=6, seed=8))
    same = [name for name in names if (tmp_path / "a" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()]
    assert sorted(same) == ["README.md", "catalog.yaml", "folds.tsv"]


def test_confounding_changes_expression_alone(genome: Path, shifted: Path) -> None:
    differing = [path.name for path in genome.iterdir() if path.read_bytes() != (shifted / path.name).read_bytes()]
    assert sorted(differing) == ["labels.tsv", "truth.json", "truth.tsv"]
    before, after = truth_of(genome), truth_of(shifted)
    moved = before["label"] != after["label"]
    assert set(before.loc[moved, "chrom"]) == {"chr2"}
    assert after.loc[after["chrom"] == "chr2", "confounding"].eq(-1.0).all()
    assert json.loads((shifted / "truth.json").read_text())["test_confounding"] == -1.0
    assert json.loads((genome / "truth.json").read_text())["test_confounding"] == 1.0


def test_genes_lie_as_stated(genome: Path) -> None:
    genes = pd.read_csv(genome / "genes.tsv", sep="\t")
    sizes = check_catalog(load_catalog(genome / "catalog.yaml"), 8000).chrom_sizes
    gaps = genes.groupby("chrom")["tss"].diff().dropna()
    assert (gaps > 0).all()
    assert (gaps >= 6000).mean() > 0.8
    assert (gaps < 1000).any()
    assert set(genes["strand"]) == {"+", "-"}
    to_end = np.minimum(genes["tss"], genes["chrom"].map(sizes) - genes["tss"])
    assert 4 <= (to_end < 4000).sum() <= 20


def test_truth_follows_the_equations(genome: Path) -> None:
    truth = truth_of(genome)
    causal = json.loads((genome / "truth.json").read_text())["causal"]
    score = truth[["motif_1", "motif_2", "motif_3"]].to_numpy() @ np.array(causal["motif_weights"])
    effect = causal["motif_effect"] * score + causal["activity_effect"] * truth["activity"]
    np.testing.assert_allclose(truth["motif_score"], score, atol=1e-5)
    np.testing.assert_allclose(truth["causal_effect"], effect, atol=1e-5)
    label = causal["intercept"] + effect + truth["confounding"] * truth["state"] + truth["noise"]
    np.testing.assert_allclose(truth["label"], label, atol=1e-5)
    assert abs(truth["noise"].std() - causal["label_noise"]) < 0.05
    assert 0.7 < truth["state"].std() < 1.3


def test_motifs_are_in_the_sequence_as_counted(genome: Path) -> None:
    truth = truth_of(genome)
    with open_sequence(genome / "genome.fa") as reader:
        for chrom, part in truth.groupby("chrom"):
            codes = reader.windows(str(chrom), part["tss"].to_numpy(), 2000)
            for row, (_, gene) in zip(codes, part.iterrows(), strict=True):
                text = "".join("ACGTN"[code] for code in row)
                for number, motif in enumerate(MOTIFS, start=1):
                    other = motif[::-1].translate(str.maketrans("ACGT", "TGCA"))
                    places = [place for place in range(2000) if text.startswith((motif, other), place)]
                    assert len(places) == gene[f"motif_{number}"]
    assert truth[["motif_1", "motif_2", "motif_3"]].mean().between(1.0, 2.0).all()


def test_ordinary_least_squares_recovers_the_stated_confounding(genome: Path, tmp_path: Path) -> None:
    truth = truth_of(genome)
    coefficients = least_squares([truth["motif_score"], truth["activity"], truth["state"]], truth["label"].to_numpy())
    np.testing.assert_allclose(coefficients[1:], [0.4, 0.6, 1.0], atol=0.08)
    simulate(tmp_path / "none", SimulationConfig(genes=200, confounding=0.0))
    without = truth_of(tmp_path / "none")
    coefficients = least_squares(
        [without["motif_score"], without["activity"], without["state"]], without["label"].to_numpy()
    )
    np.testing.assert_allclose(coefficients[3], 0.0, atol=0.1)


def test_tracks_show_what_drives_them(genome: Path) -> None:
    truth, found = truth_of(genome), features(genome, ("h3k27ac", "dnase", "hic"))
    state, level, activity = truth["state"], truth["h3k27ac_level"], truth["activity"]
    assert np.corrcoef(found["h3k27ac"], level)[0, 1] > 0.9
    assert np.corrcoef(found["dnase"], state)[0, 1] > 0.8
    assert np.corrcoef(found["hic"], state)[0, 1] > 0.5
    for name in ("dnase", "hic"):
        assert abs(np.corrcoef(found[name], activity)[0, 1]) < 0.2
    assert np.corrcoef(level, state)[0, 1] > 0.3


def test_a_linear_model_learns_expression_from_a_2_kb_window(genome: Path) -> None:
    truth, found = truth_of(genome), features(genome, ("h3k27ac", "dnase"))
    inputs = [truth["motif_score"].to_numpy(), found["h3k27ac"], found["dnase"]]
    train, test = (truth["chrom"] != "chr2").to_numpy(), (truth["chrom"] == "chr2").to_numpy()
    fitted = least_squares([values[train] for values in inputs], truth.loc[train, "label"].to_numpy())
    predicted = fitted[0] + sum(weight * values[test] for weight, values in zip(fitted[1:], inputs, strict=True))
    assert np.corrcoef(predicted, truth.loc[test, "label"])[0, 1] > 0.7


def test_a_shift_misleads_a_model_that_relies_on_dnase(genome: Path, shifted: Path) -> None:
    errors = {}
    for name, folder in (("same", genome), ("shift", shifted)):
        truth, dnase = truth_of(folder), features(folder, ("dnase",))["dnase"]
        test = (truth["chrom"] == "chr2").to_numpy()
        fitted = least_squares([dnase[~test]], truth.loc[~test, "label"].to_numpy())
        errors[name] = float(np.mean((fitted[0] + fitted[1] * dnase[test] - truth.loc[test, "label"]) ** 2))
    assert errors["shift"] > 2 * errors["same"]


def test_contact_maps_are_balanced_at_each_resolution(genome: Path) -> None:
    path = str(genome / "gm12878_hic.mcool")
    assert cooler.fileops.is_multires_file(path)
    totals = set()
    for resolution in (1000, 5000, 10_000):
        opened = cooler.Cooler(f"{path}::/resolutions/{resolution}")
        assert opened.binsize == resolution
        totals.add(int(opened.info["sum"]))
        sums = np.nansum(opened.matrix(balance=True).fetch("chr1"), axis=1)
        np.testing.assert_allclose(sums, 1.0, atol=1e-3)
    assert len(totals) == 1


def test_an_existing_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with pytest.raises(InputError, match="here: exists; give the name of a folder that does not exist"):
        simulate(tmp_path / "here", SimulationConfig(genes=24, chromosomes=6))
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        simulate(tmp_path / "file" / "genome", SimulationConfig(genes=24, chromosomes=6))


def test_nothing_is_left_of_a_simulation_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prism_ray.features.simulate.write_mcool", fail)
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "genome", SimulationConfig(genes=24, chromosomes=6))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"genes": 24}, "24 genes are too few for 8 chromosomes; use at least 4 a chromosome"),
        ({"chromosomes": 5}, "simulate.chromosomes: 5"),
        ({"seed": -1}, "simulate.seed: -1"),
        ({"confounding": float("nan")}, "simulate.confounding"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        simulation_config(**settings)
    assert message in str(caught.value)
    with pytest.raises(ValidationError):
        SimulationConfig(**settings)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from prism_ray.cli import simulate as command

    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    words = ["--genes", "24", "--chromosomes", "6", "--confounding", "0.5", "--test-confounding", "0", "--seed", "1"]
    args = parser.parse_args(["simulate", str(tmp_path / "genome"), *words])
    assert args.command(args) == 0
    assert "24 genes on 6 chromosomes" in capsys.readouterr().out
    truth = json.loads((tmp_path / "genome" / "truth.json").read_text())
    assert (truth["confounding"], truth["test_confounding"], truth["seed"]) == (0.5, 0.0, 1)
