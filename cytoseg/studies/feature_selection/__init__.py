"""Which taps and timesteps suit the labelled crops, by cross-validation over slides."""
