"""News items and their questions: format, validation, questions of general ability, references, what ships."""
