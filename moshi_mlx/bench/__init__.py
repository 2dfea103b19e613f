"""Measuring: how fast a model runs here, and what quantising did to it."""
