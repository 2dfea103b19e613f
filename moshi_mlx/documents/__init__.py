"""The documents of a conversation: words, subtitles, recordings, reports."""
