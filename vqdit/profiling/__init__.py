"""Speed and memory: FLOP counts, accelerators, compiled programs, benchmarks and plans."""
