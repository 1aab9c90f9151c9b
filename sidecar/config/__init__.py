"""What the user wrote becomes frozen settings; the only room that reads YAML and the environment."""
