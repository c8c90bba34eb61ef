"""Public data sets: loaders that take a path, features, and evaluations with honest splits."""
