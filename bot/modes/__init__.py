"""The wiring: one small file a world. Imports everything below."""
