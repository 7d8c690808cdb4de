"""What comes next: rankers that learn online, one file an algorithm, and the fold that runs them."""
