"""The `function` backend: runs functions that `@tensorhub.model` decorates."""
