"""Everything that touches Ray: build, ingest, training over workers, tuning, jobs."""
