"""The live loop: microphone and loudspeaker around a session."""
