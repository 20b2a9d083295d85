from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.report.latex import latex_text, table_latex
from prism_ray.report.text import ARM_HEADINGS, CHOSEN_HEADING, COST_HEADING, PAIRED_HEADINGS

PRINTABLE = "".join(map(chr, range(32, 127)))


def test_commands_become_characters() -> None:
    assert latex_text("h3k27ac_log1p & 5 % {x} #1 ~^ \\a") == (
        r"h3k27ac\_log1p \& 5 \% \{x\} \#1 \textasciitilde{}\textasciicircum{} \textbackslash{}a"
    )
    assert latex_text("p < 0.001") == r"p \textless{} 0.001"


def test_a_minus_is_one_and_a_hyphen_stays() -> None:
    assert latex_text("[-0.0132, 0.0021]") == "[$-$0.0132, 0.0021]"
    assert latex_text("finalist-3f and 1-2") == "finalist-3f and 1-2"


@given(st.text(alphabet=PRINTABLE))
def test_no_special_character_is_left_bare(text: str) -> None:
    escaped = latex_text(text).replace("$-$", "")
    for command in (
        r"\textbackslash{}",
        r"\textasciitilde{}",
        r"\textasciicircum{}",
        r"\textless{}",
        r"\textgreater{}",
    ):
        escaped = escaped.replace(command, "")
    for character in "&%$#_{}":
        escaped = escaped.replace(f"\\{character}", "")
    assert not set(escaped) & set("\\&%$#_{}~^<>")


def test_a_table_has_its_rules_and_cells() -> None:
    lines = table_latex(["arm", "mean"], [["n_0", "0.2"], ["n2", "-0.1"]], "5 % level", "tab:x").splitlines()
    assert lines[2] == r"\begin{tabular}{lr}"
    assert lines[3:9] == [
        r"\toprule",
        r"arm & mean \\",
        r"\midrule",
        r"n\_0 & 0.2 \\",
        r"n2 & $-$0.1 \\",
        r"\bottomrule",
    ]
    assert r"\caption{5 \% level}" in lines


def test_it_compiles(tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed (Debian: texlive-latex-base, texlive-latex-recommended)")
    rows = [[PRINTABLE[start : start + 32], "0.1789 ± 0.0041"] for start in range(0, len(PRINTABLE), 32)]
    table = table_latex(["arm", "mean ± std"], rows, "MSE, 95 % intervals; p < 0.05", "tab:arms")
    # The widest arm table there is: as many columns as one has, none of them empty.
    headings = ["cell type", *ARM_HEADINGS, *PAIRED_HEADINGS, COST_HEADING, CHOSEN_HEADING]
    row = ["signals-h3k27ac+dnase", *["[-0.0132, 0.0021]"] * (len(headings) - 1)]
    wide = table_latex(headings, [row], "As wide as an arm table is.", "tab:wide")
    load = r"\documentclass{article}\usepackage{booktabs}\usepackage{graphicx}"
    document = load + r"\begin{document}" + table + wide + r"\end{document}"
    (tmp_path / "table.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 1000
    assert "Overfull" not in done.stdout
