"""Training models further: data, losses, adapters, the loop, what it leaves behind."""
