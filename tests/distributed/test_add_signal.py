"""A track added to a finished store: as if it had been built with it, and without touching what is there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import prism_ray.store
from prism_ray.cli import main
from prism_ray.distributed import add_signal as module
from prism_ray.distributed import build, partition_run, runtime
from prism_ray.distributed.add_signal import TrackBuilder, add_signal
from prism_ray.distributed.add_signal_plan import plan_additions
from prism_ray.distributed.build import build_store
from prism_ray.errors import CatalogError, ConfigError, PrismRayError, StoreError
from prism_ray.store.schema import added_folder, write_description
from prism_ray.store.staging import Staging
from tests.distributed.inline_partitions import without_ray

WINDOW_BP = 2400
Change = Callable[[dict[str, Any]], object]


def write_catalog(source: Path, path: Path, change: Change) -> Path:
    """A catalog beside the files of another, changed."""
    content = yaml.safe_load(source.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def without_hic(content: dict[str, Any]) -> None:
    for cell in content["cell_types"].values():
        del cell["signals"]["hic"]


@pytest.fixture(scope="module", autouse=True)
def _inline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch, build, module)
        yield


@pytest.fixture(scope="module")
def genome(simulated_catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a data set with catalog.yaml, and partial.yaml that lacks the contact maps."""
    folder = tmp_path_factory.mktemp("add") / "genome"
    shutil.copytree(simulated_catalog.parent, folder)
    write_catalog(folder / "catalog.yaml", folder / "partial.yaml", without_hic)
    return folder


@pytest.fixture(scope="module")
def whole(genome: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was built with the contact maps."""
    out = tmp_path_factory.mktemp("add_whole") / "store"
    build_store(genome / "catalog.yaml", out, WINDOW_BP)
    return out


@pytest.fixture(scope="module")
def partial(genome: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was built without the contact maps; not to be changed."""
    out = tmp_path_factory.mktemp("add_partial") / "store"
    build_store(genome / "partial.yaml", out, WINDOW_BP)
    return out


@pytest.fixture
def copy(partial: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(partial, tmp_path / "store"))


@pytest.fixture(scope="module")
def added(genome: Path, partial: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store without contact maps after they were added; not to be changed."""
    out = tmp_path_factory.mktemp("added") / "store"
    shutil.copytree(partial, out)
    add_signal(out, genome / "catalog.yaml", "hic")
    return out


def test_values_are_those_of_a_store_built_with_it(whole: Path, added: Path) -> None:
    one, other = prism_ray.store.open(whole), prism_ray.store.open(added)
    assert other.signals == one.signals
    for cell_type in one.cell_types:
        assert other.signals_of(cell_type) == one.signals_of(cell_type)
        for window_bp in (600, 2000, WINDOW_BP):
            expected = one.load(window_bp, ["hic", "dnase"], cell_type)
            found = other.load(window_bp, ["hic", "dnase"], cell_type)
            np.testing.assert_array_equal(found.signals, expected.signals)
            np.testing.assert_array_equal(found.gene_id, expected.gene_id)
    genes = one.genes("K562")["gene_id"].tolist()[::-7]
    np.testing.assert_array_equal(
        other.load(2000, ["hic"], "K562", genes).signals, one.load(2000, ["hic"], "K562", genes).signals
    )
    source = other.description.cell_types["K562"].sources["hic"]
    assert source == one.description.cell_types["K562"].sources["hic"]
    assert source.settings["resolution"] == 1000


def test_what_is_there_is_not_touched(partial: Path, added: Path) -> None:
    for entry in prism_ray.store.open(partial).description.files:
        assert (added / entry.path).read_bytes() == (partial / entry.path).read_bytes()
    store = prism_ray.store.open(added)
    store.verify()
    assert store.digest != prism_ray.store.open(partial).digest
    assert not list(added.rglob("*.partial")), "no staging is left"


def test_only_the_files_of_the_signals_asked_for_are_opened(added: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(added, tmp_path / "store"))
    store = prism_ray.store.open(copy)
    for path in (copy / "added").rglob("*.parquet"):
        path.write_bytes(bytes(len(path.read_bytes())))
    assert store.load(2000, ["dnase"], "K562").signals.any()
    with pytest.raises(StoreError, match=r"hic@K562.*part-0\.parquet: has another footer"):
        store.load(2000, ["hic"], "K562")
    with pytest.raises(StoreError, match="hic@GM12878"):
        store.verify()


def test_bytes_to_read_count_the_added_files(whole: Path, added: Path) -> None:
    one, other = prism_ray.store.open(whole), prism_ray.store.open(added)
    sizes = [store.bytes_to_read(2000, ["hic"], "K562", sequence=False, scalars=()) for store in (one, other)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)


def test_the_report_gains_the_signal(whole: Path, added: Path) -> None:
    reports = [json.loads((store / "build_report.json").read_text())["cell_types"] for store in (whole, added)]
    for cell_type in ("K562", "GM12878"):
        expected, found = (report[cell_type]["signals"]["hic"] for report in reports)
        assert found == expected
    assert json.loads((added / "build_report.json").read_text())["digest"] == prism_ray.store.open(added).digest


def test_an_interrupted_addition_goes_on_and_ends_with_the_same_bytes(genome: Path, copy: Path, added: Path) -> None:
    plan = plan_additions(copy, genome / "catalog.yaml", "hic")[0]
    out = copy / added_folder("hic", plan.cell_type)
    out.parent.mkdir()
    with Staging(out, plan.key) as staging:
        builder = TrackBuilder(plan, str(staging.path))
        for number in (0, 2):
            builder.work(number)
    said: list[str] = []
    add_signal(copy, genome / "catalog.yaml", "hic", say=said.append)
    assert f"{plan.cell_type}: hic for 6 partitions, 4 of them to do" in said
    for path in added.rglob("*.parquet"):
        assert (copy / path.relative_to(added)).read_bytes() == path.read_bytes()
    assert (copy / "store.json").read_bytes() == (added / "store.json").read_bytes()


def test_an_end_between_the_last_two_acts_is_mended(
    genome: Path, copy: Path, added: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    before = prism_ray.store.open(copy).digest
    monkeypatch.setattr(module, "write_description", die)
    with pytest.raises(KeyboardInterrupt):
        add_signal(copy, genome / "catalog.yaml", "hic")
    monkeypatch.setattr(module, "write_description", write_description)
    assert prism_ray.store.open(copy).digest == before
    assert prism_ray.store.open(copy).load(2000, ["dnase"], "K562").signals.any()
    add_signal(copy, genome / "catalog.yaml", "hic")
    assert prism_ray.store.open(copy).digest == prism_ray.store.open(added).digest


def test_to_one_cell_type_first(genome: Path, copy: Path, added: Path) -> None:
    def only_k562(content: dict[str, Any]) -> None:
        del content["cell_types"]["GM12878"]

    one = write_catalog(genome / "catalog.yaml", genome / "one.yaml", only_k562)
    assert list(add_signal(copy, one, "hic")) == ["K562"]
    assert prism_ray.store.open(copy).signals_of("GM12878") == prism_ray.store.open(added).signals_of("GM12878")[:-1]
    assert list(add_signal(copy, genome / "catalog.yaml", "hic")) == ["GM12878"]
    assert prism_ray.store.open(copy).digest == prism_ray.store.open(added).digest


def test_type_by_measure(genome: Path, copy: Path) -> None:
    def measured(content: dict[str, Any]) -> None:
        for cell in content["cell_types"].values():
            cell["signals"]["hic"]["dtype"] = "auto"

    said: list[str] = []
    add_signal(copy, write_catalog(genome / "catalog.yaml", genome / "auto.yaml", measured), "hic", say=said.append)
    (signal,) = (each for each in prism_ray.store.open(copy).description.signals if each.name == "hic")
    assert signal.dtype == "float16"
    assert any("float16 would lose" in line for line in said)


@pytest.mark.parametrize(
    ("change", "signal", "kind", "message"),
    [
        (lambda c: None, "hics", ConfigError, r"no cell type has a signal 'hics'; .*Did you mean 'hic'\?"),
        (lambda c: None, "dnase", ConfigError, r"store: dnase: is there already for .*; give the new track another"),
        (
            lambda c: c.update(cell_types={"HeLa": c["cell_types"]["K562"]}),
            "hic",
            ConfigError,
            "gives hic for HeLa, which the store has not",
        ),
        (lambda c: c.update(assembly="mm10"), "hic", CatalogError, "assembly: is mm10, the store's is"),
        (lambda c: c.update(strand_aware=True), "hic", CatalogError, "strand_aware: is true, the store was built with"),
        (
            lambda c: c["cell_types"]["K562"]["signals"]["hic"].update(file="nowhere.mcool"),
            "hic",
            CatalogError,
            r"signals\.hic: .*nowhere\.mcool: no such file",
        ),
        (
            lambda c: c["cell_types"]["K562"]["signals"]["hic"].update(md5="0" * 32),
            "hic",
            CatalogError,
            "has MD5 .*, the catalog says 000",
        ),
        (
            lambda c: c["cell_types"]["K562"]["signals"]["hic"].update(resolution=7),
            "hic",
            CatalogError,
            "has no resolution 7",
        ),
    ],
)
def test_what_is_refused(
    genome: Path, partial: Path, change: Change, signal: str, kind: type[PrismRayError], message: str
) -> None:
    catalog = write_catalog(genome / "catalog.yaml", genome / "refused.yaml", change)
    before = (partial / "store.json").read_bytes()
    with pytest.raises(kind, match=message):
        add_signal(partial, catalog, signal)
    assert (partial / "store.json").read_bytes() == before
    assert not (partial / "added").exists()


def test_a_signal_means_the_same_in_every_cell_type(genome: Path, copy: Path) -> None:
    def only_k562(content: dict[str, Any]) -> None:
        del content["cell_types"]["GM12878"]

    def other_role(content: dict[str, Any]) -> None:
        for cell in content["cell_types"].values():
            cell["signals"]["hic"]["role"] = "foreground"

    add_signal(copy, write_catalog(genome / "catalog.yaml", genome / "first.yaml", only_k562), "hic")
    with pytest.raises(CatalogError, match=r"hic\.role: is foreground, in the store it is background"):
        add_signal(copy, write_catalog(genome / "catalog.yaml", genome / "role.yaml", other_role), "hic")


@pytest.mark.ray
def test_by_workers_of_a_cluster(
    genome: Path, copy: Path, added: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "run_partitions", partition_run.run_partitions)
    monkeypatch.setattr(module, "ray_runtime", runtime.ray_runtime)
    found = add_signal(copy, genome / "catalog.yaml", "hic", n_workers=2)
    assert set(found) == {"K562", "GM12878"}
    assert (copy / "store.json").read_bytes() == (added / "store.json").read_bytes()


def test_the_command(genome: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "add-signal", str(copy), str(genome / "catalog.yaml"), "hic"]) == 0
    said = capsys.readouterr()
    assert re.search(r"^K562: hic added; \d+\.\d\d% of its bases missing, r with the label at the TSS ", said.out, re.M)
    digest = prism_ray.store.open(copy).digest
    assert f"store: {copy}, digest now {digest[:12]}: earlier trials belong" in said.out
    assert "GM12878 chr6" in said.err
    assert "hic" in (copy / "quality.html").read_text()
    assert main(["store", "info", str(copy)]) == 0
    assert "background, transform log10p1, float32, resolution 1000, balance True" in capsys.readouterr().out
    assert main(["store", "verify", str(copy)]) == 0
    assert "24 files" in capsys.readouterr().out
    assert main(["store", "add-signal", str(copy), str(genome / "catalog.yaml"), "hic"]) == 2
    assert "hic: is there already for" in capsys.readouterr().err
