"""Trained runs as Python objects: encode, decode, sample, score, explain."""
