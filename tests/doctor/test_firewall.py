"""What a packet filter's rules, as its tools print them, mean for a port."""

import pytest

from offload.doctor.firewall import read, stops

NFT = """
table inet filter {
	set bad { type ipv4_addr; }
	chain input {
		type filter hook input priority filter; policy %s;
		%s
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		udp dport 5353 drop
	}
}
"""


def nft(*rules: str, policy: str = "accept") -> str:
    return NFT % (policy, "\n\t\t".join(rules))


class TestNft:
    @pytest.mark.parametrize(
        "rules",
        [
            (),
            ("udp dport 5354 drop",),
            ("tcp dport 5353 drop",),
            ("udp dport 5353 accept", "drop"),
            ("udp dport { 53, 5353 } accept", "counter packets 4 bytes 5 drop"),
            ("ct state invalid drop",),
            ('iifname "eth1" drop',),
            ("ip saddr 192.0.2.7 drop",),
            ("meta l4proto tcp reject with tcp reset",),
            ("jump elsewhere",),
        ],
        ids=str,
    )
    def test_lets_mdns_pass(self, rules: tuple[str, ...]) -> None:
        assert stops(read("nft", nft(*rules)), "udp", 5353) == []

    @pytest.mark.parametrize(
        "rules",
        [
            ("udp dport 5353 drop",),
            ("udp dport mdns counter packets 0 bytes 0 drop",),
            ('iifname "eth0" udp dport 5353 drop',),
            ("udp dport { 5000-6000, 9 } reject",),
            ("th dport 5353 drop",),
            ("tcp dport 22 accept", "drop"),
            ("counter packets 4 bytes 5 drop",),
            ("reject with icmpx admin-prohibited",),
            ("meta l4proto udp drop",),
        ],
        ids=str,
    )
    def test_stops_mdns(self, rules: tuple[str, ...]) -> None:
        (found,) = stops(read("nft", nft(*rules)), "udp", 5353)
        assert (found.chain, found.text) == ("inet filter input", rules[-1])

    def test_stops_by_its_policy_what_no_rule_accepts(self) -> None:
        rules = read("nft", nft("tcp dport 4711 accept", policy="drop"))
        assert stops(rules, "tcp", 4711) == []
        (found,) = stops(rules, "udp", 5353)
        assert found.text == "policy drop"

    def test_may_accept_in_a_chain_that_is_jumped_to(self) -> None:
        text = nft("jump ours", policy="drop") + "table inet more {\nchain ours {\n%s\n}\n}\n"
        assert stops(read("nft", text % "udp dport 5353 accept"), "udp", 5353) == []


class TestIptables:
    @pytest.mark.parametrize(
        "lines",
        [
            "-P INPUT ACCEPT",
            "-P FORWARD DROP\n-A FORWARD -p udp -m udp --dport 5353 -j DROP",
            "-P INPUT DROP\n-A INPUT -p udp -m udp --dport 5353 -j ACCEPT",
            "-P INPUT DROP\n-A ufw-user-input -p udp -m udp --dport 5353 -j ACCEPT",
            "-A INPUT -s 192.0.2.7/32 -j DROP",
            "-A INPUT -m conntrack --ctstate INVALID -j DROP",
            "-A INPUT -p tcp -j REJECT --reject-with tcp-reset",
            "-A INPUT -j f2b-sshd",
        ],
    )
    def test_lets_mdns_pass(self, lines: str) -> None:
        assert stops(read("iptables", lines), "udp", 5353) == []

    @pytest.mark.parametrize(
        "lines",
        [
            "-P INPUT DROP",
            "-A INPUT -p udp -m udp --dport 5353 -j DROP",
            "-A INPUT -p udp -m multiport --dports 53,5000:6000 -j DROP",
            "-A INPUT ! -s 192.0.2.0/24 -p udp -m udp --dport 5353 -j DROP",
            "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n-A INPUT -j REJECT --reject-with x",
        ],
    )
    def test_stops_mdns(self, lines: str) -> None:
        (found,) = stops(read("iptables", lines), "udp", 5353)
        assert found.text == lines.splitlines()[-1]

    def test_that_prints_what_is_not_understood_stops_nothing(self) -> None:
        printed = "# Warning: the kernel's legacy tables are there\nwhat is this?\n"
        assert stops(read("iptables", printed), "udp", 5353) == []
