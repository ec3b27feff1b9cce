"""What a study's results say, and how sure that is."""
