"""How each kind of subject takes a treatment."""
