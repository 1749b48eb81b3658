"""Models come, change and go: real servers, with clients that must not notice."""
