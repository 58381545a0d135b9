"""Models: what is asked of them, endpoints, prices, local weights and embeddings."""
