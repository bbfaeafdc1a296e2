"""Trained runs as Python objects, which encode, decode, sample, score and explain."""
