"""What `prism-ray doctor` finds: libraries, devices, kernels and their reasons, a self-test."""

import importlib.metadata
import json

import pytest
import torch

from prism_ray.cli import main
from prism_ray.model import doctor
from prism_ray.model.scan import KERNELS, cpu, mamba_ssm, triton_probe


def test_every_required_library_is_found_here():
    found = {library.name.lower(): library for library in doctor.libraries()}
    assert found["torch"].found == importlib.metadata.version("torch")
    assert found["torch"].needed == ">=2.10"
    assert "ray" in found
    assert "mamba-ssm" not in found, "an extra is not required"
    assert all(library.ok for library in found.values())


@pytest.mark.parametrize(
    ("line", "found", "ok"),
    [
        ("torch>=99", importlib.metadata.version("torch"), False),
        ("no-such-library-here>=1", None, False),
        ("numpy", importlib.metadata.version("numpy"), True),
        ("no-such-library-here; python_version < '3'", "left out", True),
    ],
)
def test_libraries_that_are_missing_or_of_another_version(monkeypatch, line, found, ok):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: [line])
    libraries = doctor.libraries()
    if found == "left out":
        assert libraries == ()
    else:
        assert [(library.found, library.ok) for library in libraries] == [(found, ok)]


def test_kernels_of_the_cpu_with_reasons():
    states = {state.kernel: state for state in doctor.kernel_states(torch.device("cpu"))}
    assert set(states) == {kernel.name for kernel in KERNELS}
    assert states["numba"].active
    assert (states["reference"].available, states["reference"].reason) == (True, "numba is faster")
    assert not states["triton"].available
    assert states["triton"].reason == "needs an NVIDIA GPU"
    assert states["mamba-ssm"].reason.startswith("needs an NVIDIA GPU")


def test_an_old_gpu_and_another_makers_are_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    assert triton_probe.device_problem(torch.device("cuda:0")) == "compute capability 6.1 is below 7.0"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "another maker" in triton_probe.device_problem(torch.device("cuda:0"))


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (ModuleNotFoundError("no", name="triton"), "triton is not installed"),
        (ImportError("undefined symbol"), "triton does not load: undefined symbol"),
    ],
)
def test_why_triton_cannot_be_imported(monkeypatch, problem, said):
    def fail(name):
        raise problem

    monkeypatch.setattr(triton_probe.importlib, "import_module", fail)
    triton_probe.import_problem.cache_clear()
    try:
        assert triton_probe.import_problem() == said
    finally:
        triton_probe.import_problem.cache_clear()


def test_a_gpu_without_mamba_ssm_says_why(monkeypatch):
    broken = mamba_ssm.Probe(None, "mamba_ssm does not load: undefined symbol: _ZN3c10")
    monkeypatch.setattr(mamba_ssm, "probe_scan", lambda: broken)
    monkeypatch.setattr(triton_probe, "device_problem", lambda device: "")
    states = {state.kernel: state for state in doctor.kernel_states(torch.device("cuda:0"))}
    assert states["triton"].active
    assert states["mamba-ssm"].reason == "mamba_ssm does not load: undefined symbol: _ZN3c10"
    assert states["numba"].reason.startswith("serves CPU")


def test_the_active_kernel_passes_its_self_test():
    test = doctor.self_test(torch.device("cpu"))
    assert test.ok
    assert test.kernel == "numba"
    assert test.value_error < 1e-6
    assert test.gradient_error < 1e-5


@pytest.mark.parametrize("fails", [False, True])
def test_a_kernel_that_is_wrong_or_fails_makes_the_diagnosis_bad(monkeypatch, capsys, fails):
    def wrong(x, z, left, right):
        if fails:
            raise RuntimeError("no kernel image is available\nfor this device")
        weights = sum(tensor.sum() for tensor in (*left, *right))
        return x * z + weights

    monkeypatch.setattr(cpu, "bidirectional_inner", wrong, raising=False)
    assert main(["doctor"]) == 2
    said = capsys.readouterr().out
    assert "FAILED self-test of numba" in said
    assert ("RuntimeError: no kernel image is available" in said) == fails
    assert "to mend: numba on cpu" in said


def test_the_command_prints_text_and_json(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "active numba" in text
    assert "absent triton" in text
    assert text.endswith("all that is required is here\n")
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert next(state["kernel"] for state in found["kernels"] if state["active"]) == "numba"


def test_a_missing_library_is_exit_2(monkeypatch, capsys):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["no-such-library-here>=1"])
    assert main(["doctor"]) == 2
    said = capsys.readouterr().out
    assert "MISSING no-such-library-here" in said
    assert "to mend: no-such-library-here" in said
