"""Evaluation of samples: recognisers that are fitted on real data, and metrics."""
