"""Files of a run: workdir, checkpoints, checksums and log."""
