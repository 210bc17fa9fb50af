"""What to annotate next: disputed regions found, chosen and queued."""
