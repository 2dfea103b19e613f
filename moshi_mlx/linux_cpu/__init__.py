"""Fast products for MLX's CPU backend on Linux; macOS and GPUs do not use this."""
