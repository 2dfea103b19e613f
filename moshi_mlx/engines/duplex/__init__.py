"""Models that listen and speak at once: Moshi and Hibiki."""
