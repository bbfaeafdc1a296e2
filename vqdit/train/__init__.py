"""The training loop: state, step, outputs, and the handling of failures."""
