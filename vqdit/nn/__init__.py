"""Building blocks of networks: attention, embeddings, convolutions. Flax lives here and in models."""
