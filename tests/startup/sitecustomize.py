"""What every Python process of a test run does first, by tests/conftest.py: it looks for cyclic garbage rarely.

A look goes through all that is loaded here, of which nothing is garbage: a sixth of the time that a process of Ray's or
of MLflow's takes to load PyTorch, Ray Data and MLflow, and there are some hundred.
"""

import gc

gc.set_threshold(20_000, 20, 20)
