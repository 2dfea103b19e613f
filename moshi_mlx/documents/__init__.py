"""What a conversation leaves behind: words, subtitles, recordings, reports."""
