"""The memory: captures and the append-only journal. Imports domain."""
