"""Ranks of genes within many draws at once, in compiled code: what Spearman's correlation of a draw is made of.

N genes, K draws, G groups of genes with an equal value. Counts of genes are whole numbers in float64, and so is what
is added here: with less than 100,000 genes in a draw nothing is rounded.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def rank_weights(genes: Whole, starts: Whole, counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Ranks of one value within each draw, as weights for the sums over another one's.

    Args:
        genes, starts, counts: as for `rank_sums`.

    Returns:
        (N, K) twice a gene's rank around the mean of the draw's, times its copies; (K,) four times the sum of squares
        of ranks around their mean if no genes were equal but copies of one, and (K,) with all that are equal.
    """
    n_genes, n_draws = counts.shape
    number, copies, cubes = np.zeros(n_draws), np.zeros(n_draws), np.zeros(n_draws)
    up_to, alike, around = np.zeros(n_draws), np.empty(n_draws), np.empty(n_draws)
    weights = np.empty((n_genes, n_draws))
    for gene in range(n_genes):
        for draw in range(n_draws):
            number[draw] += counts[gene, draw]
            copies[draw] += counts[gene, draw] * counts[gene, draw] * counts[gene, draw]
    for group in range(len(starts) - 1):
        alike[:] = 0.0
        for place in range(starts[group], starts[group + 1]):
            for draw in range(n_draws):
                alike[draw] += counts[genes[place], draw]
        for draw in range(n_draws):
            up_to[draw] += alike[draw]
            cubes[draw] += alike[draw] * alike[draw] * alike[draw]
            around[draw] = 2.0 * up_to[draw] - alike[draw] - number[draw]
        for place in range(starts[group], starts[group + 1]):
            for draw in range(n_draws):
                weights[genes[place], draw] = counts[genes[place], draw] * around[draw]
    # That of n different ranks, less what each tie takes away.
    every = number * number * number
    return weights, (every - copies) / 3.0, (every - cubes) / 3.0


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def rank_sums(genes: Whole, starts: Whole, counts: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Sum over a draw's genes of weight times rank, and what ties add to the sum of cubes of equal genes' numbers.

    Genes of a group share the mean of their ranks. A gene's draws lie side by side, so that a pass over the genes
    adds for all draws with vector instructions; a gene alone, the usual case, has no group to be added up first.

    Args:
        genes: (N,) genes by ascending value.
        starts: (G + 1,) where each group starts in `genes`, and N.
        counts: (N, K) how often each draw has each gene.
        weights: (N, K) of a gene's copies together.

    Returns:
        (K,) sums over groups of their weight times twice their mean rank, less one: twice the genes up to the group's
        end, less the group's. (K,) sums over groups of the cube of their number of genes, less each gene's cube.
    """
    n_draws = counts.shape[1]
    up_to, products, ties = np.zeros(n_draws), np.zeros(n_draws), np.zeros(n_draws)
    alike, weight = np.empty(n_draws), np.empty(n_draws)
    for group in range(len(starts) - 1):
        first, end = starts[group], starts[group + 1]
        gene = genes[first]
        if end == first + 1:
            for draw in range(n_draws):
                number = counts[gene, draw]
                up_to[draw] += number
                products[draw] += weights[gene, draw] * (2.0 * up_to[draw] - number)
            continue
        alike[:], weight[:] = 0.0, 0.0
        for place in range(first, end):
            gene = genes[place]
            for draw in range(n_draws):
                number = counts[gene, draw]
                alike[draw] += number
                weight[draw] += weights[gene, draw]
                ties[draw] -= number * number * number
        for draw in range(n_draws):
            number = alike[draw]
            up_to[draw] += number
            products[draw] += weight[draw] * (2.0 * up_to[draw] - number)
            ties[draw] += number * number * number
    return products, ties
