"""What looks at examples/deploy from outside of the suite's own environment."""
