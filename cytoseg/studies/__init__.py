"""Studies of many trainings; each writes one table and one figure."""
