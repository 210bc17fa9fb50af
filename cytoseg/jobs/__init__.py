"""Jobs of the app: commands as background processes with a job table."""
