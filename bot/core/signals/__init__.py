"""What the market tells: one file a signal."""
