"""The world: what answers the bot's orders when no venue does. Imports market and domain."""
