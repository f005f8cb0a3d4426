"""One thin module per command: options in, a call to what does the work, facts out."""
