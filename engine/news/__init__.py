"""News items and their questions: file format, validation, questions of general ability, references, shipped data."""
