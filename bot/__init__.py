"""A market-making bot: one functional core, an imperative shell, six worlds."""
