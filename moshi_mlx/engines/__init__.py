"""Everything that a loaded model can do: converse, transcribe, speak, write."""
