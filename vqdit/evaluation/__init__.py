"""How good samples are: recognisers fitted on real data, and the scores they give."""
