"""The command line: `moshi-mlx COMMAND`, one file per command."""
