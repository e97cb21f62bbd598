"""What a team would take instead of this service."""
