"""Bad input through the real command: exit code 2, all faults together with their places, nothing half-written.

What a catalog, a store or a study refuses in detail is tested in their own rooms; here is what the user sees.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from prism_ray.cli import main
from prism_ray.features.simulate import SimulationConfig, simulate
from tests.features.catalog_edits import put, rewrite, set_field, set_signal
from tests.store.factory import Recipe, make_store
from tests.study.texts import ABLATION, changed

CONFIG = """\
data: {cell_type: K562, fold: fold_1, window_bp: 200, signals: [h3k27ac, dnase]}
model: {d_model: 8, n_layers: 1, d_state: 4}
training: {n_steps: 3, batch_size: 4, precision: float32}
"""
STUDY = changed(ABLATION, ("  model.d_model: 16\n", "  model.d_model: 16\n  data.window_bp: 200\n"))


@dataclass(frozen=True)
class Case:
    """A fault: what is spoilt in the workspace, what is run there, and what must be said."""

    name: str
    argv: str
    said: tuple[str, ...]
    spoil: Callable[[Path], object] = lambda workspace: None
    n_faults: int = 1


def in_genome(change: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda workspace: void(change(workspace / "genome"))


def void(_: object) -> None:
    pass


def both(*changes: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda folder: void([change(folder) for change in changes])


def cut(name: str, n_bytes: int = 60) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = next(folder.glob(name))
        path.write_bytes(path.read_bytes()[:-n_bytes])

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def edit(name: str, *pairs: tuple[str, str]) -> Callable[[Path], None]:
    return lambda folder: void((folder / name).write_text(changed((folder / name).read_text(), *pairs)))


def without_prefix(folder: Path) -> None:
    table = folder / "genes.tsv"
    table.write_text(re.sub(r"\tchr(\d)", r"\t\1", table.read_text()))


def other_schema(folder: Path) -> None:
    path = folder / "store/store.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "schema_version": "99.0"}))


def other_run(folder: Path) -> None:
    (folder / "other").mkdir()
    (folder / "other/run_id").write_text("0123456789abcdef\n")


BUILD, TRAIN = "build genome/catalog.yaml --out new", "train run.yaml --store store --out new"
RUN = "run study.yaml --store store --storage new"
CATALOG = "genome/catalog.yaml"

CASES = [
    # -- build
    Case("no catalog", "build nowhere.yaml --out new", ("nowhere.yaml: no such file",)),
    Case(
        "missing file",
        BUILD,
        (f"{CATALOG}: cell_types.K562.signals.dnase: genome/k562_dnase.bw: no such file",),
        in_genome(remove("k562_dnase.bw")),
    ),
    Case("truncated bigWig", BUILD, ("genome/k562_dnase.bw: is cut short",), in_genome(cut("k562_dnase.bw"))),
    Case(
        "truncated contact map",
        BUILD,
        ("genome/k562_hic.mcool: is not a cooler file, or is cut short",),
        in_genome(cut("k562_hic.mcool", 50_000)),
    ),
    Case(
        "chromosomes named 1 and chr1",
        BUILD,
        ("chromosomes are named 'chr1' here and '1' in the gene table; name them alike", "(genome.fa)"),
        in_genome(without_prefix),
        n_faults=13,
    ),
    Case(
        "TSS outside its chromosome",
        BUILD,
        (f"{CATALOG}: genes: genes.tsv: the TSS lies outside its chromosome in 1 of 24 genes: 'SIMG00000001 at",),
        in_genome(put("genes.tsv", "tss", 0, "99999999")),
    ),
    Case(
        "duplicate gene id",
        BUILD,
        (f"{CATALOG}: genes: genes.tsv: gene_id is not unique in 2 of 24 rows: 'SIMG00000001' (row 1), ",),
        in_genome(put("genes.tsv", "gene_id", 1, "SIMG00000001")),
    ),
    Case(
        "unknown field of a catalog",
        BUILD,
        (f"{CATALOG}:", ": cell_types.K562.signals.dnase.transfrom: is not a known field", "Did you mean 'transform'?"),
        in_genome(set_signal("dnase", transfrom="log1p")),
    ),
    Case(
        "text for a number in a catalog",
        BUILD,
        (f"{CATALOG}:", ": window_bp: '8e3' is text to YAML, not a number; write 8.0e+3"),
        in_genome(edit("catalog.yaml", ("window_bp: 8000", "window_bp: 8e3"))),
    ),
    Case(
        "several faults of a catalog's files",
        BUILD,
        ("k562_dnase.bw: is cut short", "gm12878_dnase.bw: no such file", "strand is neither + nor -", "resolution 77"),
        in_genome(
            both(
                cut("k562_dnase.bw"),
                remove("gm12878_dnase.bw"),
                put("genes.tsv", "strand", 2, "."),
                lambda folder: rewrite(
                    folder,
                    lambda c: [cell["signals"]["hic"].update(resolution=77) for cell in c["cell_types"].values()],
                ),
            )
        ),
        n_faults=5,
    ),
    Case(
        "several faults of a catalog itself",
        BUILD,
        ("window_bp: 2001 is odd", "kind: 'bigbed'"),
        in_genome(both(set_field("window_bp", 2001), set_signal("dnase", kind="bigbed"))),
        n_faults=2,
    ),
    Case("odd window", f"{BUILD} --window-bp 2001", ("2001", "is not a length of a window")),
    Case("store that exists", "build genome/catalog.yaml --out store", ("store: exists already; give another --out",)),
    Case("no folder for the store", "build genome/catalog.yaml --out a/b", ("/a is no folder; create it",)),
    # -- store
    Case("no store", "store info nowhere", ("nowhere",)),
    Case(
        "store of another schema version",
        "store info store",
        ("store/store.json", "99.0"),
        other_schema,
    ),
    Case(
        "store with damaged files",
        "store verify store",
        ("chrom=chr1/part-0.parquet: has ", "chrom=chr2/part-0.parquet: no such file"),
        both(
            cut("store/cell_type=K562/chrom=chr1/part-0.parquet"),
            remove("store/cell_type=K562/chrom=chr2/part-0.parquet"),
        ),
        n_faults=2,
    ),
    # -- train
    Case("no config", "train nowhere.yaml --store store --out new", ("nowhere.yaml: no such file",)),
    Case(
        "unknown fields and wrong types of a config",
        TRAIN,
        (
            "run.yaml:2: model.d_modle: is not a known field",
            "Did you mean 'd_model'?",
            "run.yaml:3: training.batch_size: True: input should be a valid integer",
            "run.yaml:4: optimizer.learning_rate: '5e-4' is text to YAML, not a number; write 5.0e-4",
        ),
        both(
            edit("run.yaml", ("d_model", "d_modle"), ("batch_size: 4", "batch_size: true")),
            lambda folder: (folder / "run.yaml").open("a").write("optimizer: {learning_rate: 5e-4}\n"),
        ),
        n_faults=3,
    ),
    Case(
        "what a store has not",
        TRAIN,
        (
            "run.yaml",
            "'dnas'",
            "Did you mean 'dnase'?",
            "data.fold: 'fold_9' is not a fold of the store; use one of fold_1. Did you mean 'fold_1'?",
            "6000",
        ),
        edit("run.yaml", ("dnase", "dnas"), ("fold_1", "fold_9"), ("window_bp: 200", "window_bp: 6000")),
        n_faults=3,
    ),
    Case(
        "cell type that a store has not", TRAIN, ("'K526'", "Did you mean 'K562'?"), edit("run.yaml", ("K562", "K526"))
    ),
    Case(
        "background states without signals",
        TRAIN,
        ("run.yaml: model.n_states 2 has no effect without signals", "name a signal in data.signals, or use"),
        edit("run.yaml", ("[h3k27ac, dnase]", "[]")),
    ),
    Case("no store to train on", "train run.yaml --store nowhere --out new", ("nowhere",)),
    Case("other schema version to train on", TRAIN, ("store/store.json", "99.0"), other_schema),
    Case(
        "more genes a step than there are, among too many workers",
        f"{TRAIN} --workers 3",
        (
            "run.yaml: training.batch_size: 13, but fold fold_1 trains on 12 genes",
            "run.yaml: training.batch_size: 13 genes a step do not divide among 3 workers",
        ),
        edit("run.yaml", ("batch_size: 4", "batch_size: 13")),
        n_faults=2,
    ),
    Case(
        "impossible resources",
        f"{TRAIN} --workers 0 --cpus-per-worker 0 --gpus-per-worker nan --checkpoint-every -1",
        (
            "n_workers: 0 is too few",
            "cpus_per_worker: 0",
            "gpus_per_worker: nan cannot be",
            "checkpoint_every_steps: -1",
        ),
        n_faults=4,
    ),
    Case("a file for the run's folder", "train run.yaml --store store --out run.yaml", ("run.yaml: is no folder",)),
    Case(
        "a folder of other files",
        "train run.yaml --store store --out genome",
        ("genome: holds other files than a run's",),
    ),
    Case(
        "the folder of another run",
        "train run.yaml --store store --out other",
        ("other: holds the run 0123456789abcdef, and these settings on these data are the run ", "give another --out"),
        other_run,
    ),
    # -- run
    Case("no study", "run nosuch --store store --storage new", ("nosuch: is neither a file nor the name of a study",)),
    Case(
        "study named almost right",
        "run smok --store store --storage new",
        ("Did you mean 'smoke'?",),
    ),
    Case(
        "unknown signal of a study",
        RUN,
        ("study.yaml: arm n4: data.signals: the signal 'dnas' is not in the store", "Did you mean 'dnase'?"),
        edit(
            "study.yaml",
            ("changes: [model.n_states]", "changes: [model.n_states, data.signals]"),
            ("      model.n_states: 4\n", "      model.n_states: 4\n      data.signals: [dnas]\n"),
        ),
    ),
    Case(
        "several faults of a study",
        RUN,
        (
            "study.yaml:6: baseline.optimizer.learning_rate: '5e-4' is text to YAML, not a number; write 5.0e-4",
            "objectiv: is not a known field",
            "Did you mean 'objective'?",
            "seeds.0: 'two': input should be a valid integer",
        ),
        edit(
            "study.yaml",
            ("  model.d_model: 16\n", "  optimizer.learning_rate: 5e-4\n"),
            ("objective:", "objectiv:"),
            ("seeds: [2, 22]", "seeds: [two, 22]"),
        ),
        n_faults=4,
    ),
    Case(
        "several things that a store has not",
        RUN,
        ("'fold_9'", "'K526'", "6000 bp, but the store has 200 bp"),
        edit("study.yaml", ("fold_1", "fold_9"), ("K562", "K526"), ("window_bp: 200", "window_bp: 6000")),
        n_faults=3,
    ),
    Case("no store for a study", "run study.yaml --store nowhere --storage new", ("nowhere",)),
    Case("other schema version for a study", RUN, ("store/store.json", "99.0"), other_schema),
    Case(
        "no trial at once",
        f"{RUN} --max-concurrent 0",
        ("--max-concurrent: 0 trials at once; use 1 or more, or leave it out",),
    ),
    Case(
        "more genes a step than the study's fold has",
        RUN,
        ("study.yaml: training.batch_size: 16, but fold fold_1 trains on 12 genes",),
        edit("study.yaml", ("  model.d_model: 16\n", "  model.d_model: 16\n  training.batch_size: 16\n")),
    ),
    Case(
        "tracking store that cannot be",
        f"{RUN} --tracking-uri ./mlruns",
        ("tracking URI './mlruns': is a path", "give sqlite:///"),
    ),
    # -- report
    Case("no results", "report smoke", ("results/mlflow.db: does not exist; run a study first",)),
    # -- simulate
    Case("genome that exists", "simulate genome", ("genome: exists; give the name of a folder that does not exist",)),
    Case(
        "impossible genome",
        "simulate new --genes 1 --chromosomes 2 --seed -1 --confounding nan",
        ("simulate.genes: 1", "simulate.chromosomes: 2", "simulate.seed: -1", "simulate.confounding: nan"),
        n_faults=4,
    ),
]


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace without faults: genome, store, config and study. Not to be changed."""
    folder = tmp_path_factory.mktemp("pristine")
    simulate(folder / "genome", SimulationConfig(genes=24, chromosomes=6, seed=3))
    make_store(folder / "store", Recipe(window_bp=200))
    (folder / "run.yaml").write_text(CONFIG)
    (folder / "study.yaml").write_text(STUDY)
    return folder


@pytest.fixture
def workspace(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workspace that a test may spoil; the working folder."""
    folder = Path(shutil.copytree(pristine, tmp_path / "workspace"))
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def contents(folder: Path) -> dict[str, tuple[int, int] | None]:
    """Size and time of change of every file, hidden ones too; None for a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_refused_before_anything_is_written(
    case: Case, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case.spoil(workspace)
    before = contents(workspace.parent)
    code = main(case.argv.split())
    said = capsys.readouterr()
    assert contents(workspace.parent) == before
    assert code == 2
    assert said.out == ""
    for part in case.said:
        assert part in said.err
    # A study's question may come first: it is what runs. Then one error, a fault a line.
    lines = said.err.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"prism-ray {case.argv.split()[0]}: "))
    if case.n_faults == 1:
        assert "faults:" not in said.err
        assert len(lines) == first + 1
    else:
        assert lines[first].endswith(f": {case.n_faults} faults:")
        assert len(lines) == first + 1 + case.n_faults


@pytest.mark.parametrize("argv", [TRAIN, f"{TRAIN} --workers 2", RUN])
def test_a_gpu_where_there_is_no_cuda_is_refused_before_anything_is_written(
    argv: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    # Whatever cluster other tests have joined.
    monkeypatch.setattr("prism_ray.distributed.gpus.starts_local_cluster", lambda address: True)
    before = contents(workspace.parent)
    assert main([*argv.split(), "--gpus-per-worker", "1"]) == 2
    said = capsys.readouterr()
    assert contents(workspace.parent) == before
    assert said.out == ""
    line = said.err.splitlines()[-1]
    assert line.startswith(f"prism-ray {argv.split()[0]}: --gpus-per-worker: 1 is asked for, and there is no CUDA here")
    assert "use --gpus-per-worker 0, or a machine with an NVIDIA GPU" in line


def test_what_is_not_spoilt_is_not_refused(workspace: Path) -> None:
    """The cases above fail for their fault alone: the same files pass the same checks."""
    import prism_ray.store
    from prism_ray.config import RunConfig
    from prism_ray.distributed.build_plan import plan_build
    from prism_ray.distributed.single import check_run
    from prism_ray.documents import read_document, validate_document
    from prism_ray.errors import ConfigError
    from prism_ray.study.load import load_study
    from prism_ray.study.store_check import check_against_store

    plan_build(Path(CATALOG), None)
    store = prism_ray.store.open("store")
    store.verify()
    check_against_store(load_study("study.yaml"), store)
    config = validate_document(read_document(Path("run.yaml"), ConfigError), RunConfig, ConfigError)
    check_run(config, store, 2, "run.yaml")


def test_no_traceback_in_a_process_of_its_own(workspace: Path) -> None:
    edit("run.yaml", ("d_model", "d_modle"))(workspace)
    script = "import sys; from prism_ray.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", script, *TRAIN.split()], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("prism-ray train: run.yaml:2: model.d_modle: is not a known field")
    assert len(done.stderr.splitlines()) == 1
