"""What a face model's file does not say, derived: landmarks, mirror table, texture layout, appearance."""
