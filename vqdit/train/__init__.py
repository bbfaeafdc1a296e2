"""The training loop, its state, its one step, what it writes and what interrupts it."""
