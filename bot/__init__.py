"""A market-making bot: one functional core, an imperative shell, six worlds."""

__version__ = "0.1.0"
