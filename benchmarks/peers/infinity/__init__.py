"""infinity-emb: the shared encoder alone."""
