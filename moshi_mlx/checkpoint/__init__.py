"""Files and models: find, load, quantise, save."""
