"""Pages in a browser over the run directories: they read what the runs wrote, and start what the terminal would."""
