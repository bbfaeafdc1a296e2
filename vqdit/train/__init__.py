"""The training loop: its state, its step, what it writes, and how it reacts to failures."""
