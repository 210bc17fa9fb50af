"""Reading slides, crops and tiles cheaply; making slides for tests and the demo."""
