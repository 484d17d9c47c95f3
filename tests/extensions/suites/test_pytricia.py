"""pytricia against ipaddress: the sdist has no tests."""

import ipaddress
import random
import socket

import pytest

from pytricia import PyTricia


def filled(*prefixes):
    trie = PyTricia()
    for prefix in prefixes:
        trie[prefix] = f"value of {prefix}"
    return trie


def test_longest_match():
    trie = filled("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24")
    assert trie["10.1.2.3"] == "value of 10.1.2.0/24"
    assert trie["10.1.9.9"] == "value of 10.1.0.0/16"
    assert trie["10.9.9.9"] == "value of 10.0.0.0/8"
    assert trie.get("11.0.0.1") is None and trie.get("11.0.0.1", 5) == 5
    with pytest.raises(KeyError):
        trie["11.0.0.1"]


def test_keys():
    trie = filled("10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/24")
    assert len(trie) == 3 and sorted(trie) == sorted(trie.keys()) == ["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/24"]
    assert "10.7.7.7" in trie and "11.0.0.0" not in trie
    assert trie.has_key("10.1.0.0/16") and not trie.has_key("10.1.0.0/17")
    assert trie.get_key("10.1.200.1") == "10.1.0.0/16" and trie.get_key("11.0.0.0") is None


def test_delete():
    trie = filled("10.0.0.0/8", "10.1.0.0/16")
    del trie["10.1.0.0/16"]
    assert trie["10.1.2.3"] == "value of 10.0.0.0/8" and len(trie) == 1
    trie.delete("10.0.0.0/8")
    assert len(trie) == 0
    with pytest.raises(KeyError):
        trie.delete("10.0.0.0/8")


def test_replace():
    trie = filled("10.0.0.0/8")
    trie["10.0.0.0/8"] = "new"
    assert trie["10.0.0.1"] == "new" and len(trie) == 1


def test_insert_with_length():
    trie = PyTricia()
    trie.insert("10.0.0.0", 8, "value")
    assert trie.has_key("10.0.0.0/8") and trie["10.3.3.3"] == "value"


def test_parents_and_children():
    trie = filled("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.2.0.0/16")
    assert trie.parent("10.1.2.0/24") == "10.1.0.0/16" and trie.parent("10.0.0.0/8") is None
    assert sorted(trie.children("10.1.0.0/16")) == ["10.1.2.0/24"]
    assert sorted(trie.children("10.0.0.0/8")) == ["10.1.0.0/16", "10.1.2.0/24", "10.2.0.0/16"]


def test_version_6():
    trie = PyTricia(128)
    trie["2001:db8::/32"] = 1
    trie["2001:db8:1::/48"] = 2
    assert trie["2001:db8:1::5"] == 2 and trie["2001:db8:2::5"] == 1 and "2001:db9::1" not in trie


def test_addresses_as_bytes():
    trie = PyTricia(32, socket.AF_INET, True)
    trie.insert(b"\x0a\x00\x00\x00", 8, "ten")
    assert trie[b"\x0a\x01\x02\x03"] == "ten"


def test_address_objects():
    trie = filled("10.0.0.0/8")
    assert trie[ipaddress.ip_address("10.1.1.1")] == "value of 10.0.0.0/8"
    trie[ipaddress.ip_network("10.1.0.0/16")] = 2
    assert trie["10.1.1.1"] == 2


def test_freeze():
    trie = filled("10.0.0.0/8")
    trie.freeze()
    with pytest.raises((ValueError, RuntimeError, TypeError)):
        trie["11.0.0.0/8"] = 1
    assert trie["10.1.1.1"] == "value of 10.0.0.0/8"
    trie.thaw()
    trie["11.0.0.0/8"] = 1
    assert len(trie) == 2


@pytest.mark.parametrize("bad", ["text", ""])
def test_bad_prefixes(bad):
    with pytest.raises((ValueError, KeyError)):
        PyTricia()[bad] = 1


@pytest.mark.parametrize("seed", range(8))
def test_random(seed):
    """The longest of the prefixes that hold an address, worked out by hand."""
    numbers = random.Random(seed)
    trie, networks = PyTricia(), {}
    for _ in range(400):
        length = numbers.choice((8, 12, 16, 20, 22, 24, 30))
        address = ipaddress.ip_address((10 << 24) + numbers.randrange(1 << 20))
        network = ipaddress.ip_network(f"{address}/{length}", strict=False)
        if network in networks and numbers.random() < 0.5:
            del networks[network]
            trie.delete(str(network))
        else:
            networks[network] = trie[str(network)] = numbers.random()
        address = ipaddress.ip_address((10 << 24) + numbers.randrange(1 << 20))
        holding = [each for each in networks if address in each]
        best = max(holding, key=lambda each: each.prefixlen, default=None)
        assert trie.get(str(address)) == networks.get(best)
    assert len(trie) == len(networks)
    assert {ipaddress.ip_network(key): trie[key] for key in trie} == networks


def test_values_live_as_long_as_their_prefix():
    class Value:
        count = 0

        def __init__(self):
            Value.count += 1

        def __del__(self):
            Value.count -= 1

    trie = PyTricia()
    for i in range(50):
        trie[f"10.{i}.0.0/16"] = Value()
    for i in range(25):
        del trie[f"10.{i}.0.0/16"]
    assert Value.count == 25
    del trie
    assert Value.count == 0
