"""How models of one name are told apart inside the server, with `--model-namespacing`. Pure.

A model is known by its key. That is its name, but for a name that several repositories have: there it is the
repository's path, a slash and the name. A name holds no slash, so that no key of the second kind is a name.
"""

from typing import Any

_SEPARATOR = "/"


def model_key(namespace: str, name: str) -> str:
    """Return the key of a model; `namespace` is "" where the name alone is enough."""
    return f"{namespace}{_SEPARATOR}{name}" if namespace else name


def bare_name(key: str) -> str:
    """Return the name that clients use."""
    return key.rpartition(_SEPARATOR)[2]


def step_model(step: Any) -> str:
    """Return the key of the model of a `ModelEnsembling.Step`, whose namespace has been filled in."""
    return model_key(step.model_namespace, step.model_name)


def namespace_of(key: str) -> str:
    """Return the path of the repository, "" for a key that is a name."""
    return key.rpartition(_SEPARATOR)[0]
