"""Building blocks of networks: attention, embeddings, convolutions."""
