"""Building blocks of networks: attention, embeddings, convolutions and transformer layers."""
