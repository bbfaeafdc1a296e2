"""What a run keeps on disk: its workdir, checkpoints, checksums and log."""
