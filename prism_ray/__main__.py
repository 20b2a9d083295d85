"""`python -m prism_ray` is `prism-ray`."""

import sys

from prism_ray.cli import main

sys.exit(main())
