"""Speed and memory: FLOP counts, accelerators, compiled programs, benchmark and plan."""
