"""A registry maps names to objects, refuses a name twice, and helps with a wrong one."""

import pytest

import meanfield as mf
from meanfield.registry import Registry


@pytest.fixture
def registry():
    registry = Registry("fruit")
    registry.register("apple", "pomme")(1)
    registry.register("banana")(2)
    return registry


def test_it_is_a_mapping_in_order_of_registration(registry):
    assert list(registry) == ["apple", "pomme", "banana"]
    assert dict(registry) == {"apple": 1, "pomme": 1, "banana": 2}
    assert len(registry) == 3
    assert "pomme" in registry
    assert "pear" not in registry
    assert registry.get("banana") == 2


def test_registering_returns_the_object(registry):
    item = object()
    assert registry.register("cherry")(item) is item
    assert registry["cherry"] is item


@pytest.mark.parametrize("name", ["apple", "pomme"])
def test_no_name_is_taken_twice(registry, name):
    with pytest.raises(mf.MeanFieldError, match=f"fruit '{name}' is registered already"):
        registry.register(name)(3)
    assert registry[name] == 1


def test_an_unknown_name_is_an_error_with_near_misses(registry):
    with pytest.raises(mf.MeanFieldError, match="unknown fruit 'aple'; did you mean apple"):
        registry["aple"]
    with pytest.raises(mf.MeanFieldError, match="known: apple, banana, pomme"):
        registry["xxxxxxxx"]
