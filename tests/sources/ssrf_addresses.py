"""Addresses by which servers have been led into private networks: forms of loopback, metadata services, odd URLs.

``{port}`` is the port of a listener on loopback that must never be reached; `ANSWERS` is what a resolver says.
"""

from __future__ import annotations

NUMBERS = [
    "127.0.0.1", "127.1", "127.0.1", "127.0.0.01", "127.000.000.001", "2130706433", "0x7f000001", "0X7F000001",
    "017700000001", "0177.0.0.1", "0177.0.0.01", "0x7f.0.0.1", "0x7f.1", "0x7f.0x0.0x0.0x1", "127.0x0.0.1",
    "0x7f.0.1", "127.0.0.1.", "127.0.0.1..", "127.255.255.254", "127.0.0.2", "127.127.127.127", "0", "0.0.0.0", "00",
    "0x0", "0.1", "0.0.0.1", "000000000000", "10.0.0.1", "10.255.255.255", "012.0.0.1", "0xa.0.0.1", "167772161",
    "172.16.0.1", "172.31.255.255", "2886729729", "192.168.0.1", "192.168.1.254", "3232235521", "0xc0a80001",
    "169.254.169.254", "169.254.0.1", "169.254.170.2", "2852039166", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376", "169.254.43518", "168.63.129.16", "100.100.100.200", "100.64.0.1", "100.127.255.255",
    "192.0.0.1", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9",
    "192.88.99.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "256.0.0.1", "127.0.0.257",
    "127.0.0.1.1", "4294967296", "18446744071562067969",
    "127.0.00000000.1", "0x7F.0x00.0x00.0x01", "0x7f000001.", "127.0.0.1%00", "127.0.0.1%20", "1.0.0.127.in-addr.arpa.",
    "0x00000000007f000001", "0000000000000000000000000000000000000000000000000017700000001", "017700000001.", "127.1.",
    "127.0.0.1:80", "-1", "+127.0.0.1", "１２７.１", "127\u3002\u0030.0.1", "127\uff0e0\uff0e0\uff0e1",
    "\u2474\u2475", "169.254.169.254.", "0xa9fe.0xa9fe", "169.16689662", "172.17.0.1", "10.96.0.1",
]  # fmt: skip

BRACKETED = [
    "::1", "0:0:0:0:0:0:0:1", "0000:0000:0000:0000:0000:0000:0000:0001", "::", "::127.0.0.1", "::7f00:1",
    "::ffff:127.0.0.1", "::ffff:7f00:1", "::FFFF:127.0.0.1", "0:0:0:0:0:ffff:127.0.0.1", "::ffff:0:127.0.0.1",
    "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::ffff:192.168.0.1", "::ffff:0.0.0.0",
    "64:ff9b::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::",
    "2002:a9fe:a9fe::", "2002:c0a8:1::1", "2001::1", "2001:0:7f00:1::", "2001:db8::1", "2001:10::1", "3fff::1",
    "5f00::1", "fc00::1", "fd00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%25lo", "fe80::1%lo",
    "::1%25lo", "::1%lo", "fec0::1", "ff02::1", "ff01::1", "100::1", "::1]", "[::1", "127.0.0.1", "::1.", "v1.127",
    "::ffff:0x7f000001", "::ffff:2130706433", "::ffff:100.100.100.200", "::ffff:168.63.129.16", "::ffff:127.1",
    "64:ff9b:1:7f00:1::", "64:ff9b::100.100.100.200", "2002:a83f:8110::", "2002:6464:64c8::1", "fd00:ec2::23",
    "::ffff:0:7f00:1", "0:0:0:0:ffff:0:127.0.0.1", "2001:0:a9fe:a9fe::", "fe80::a9fe:a9fe", "fe80::5efe:127.0.0.1",
    "::ffff:127.0.0.1%25lo", "::0", "::0.0.0.0", "0::1", "::00001", "127.0.0.1:80", "::1/128", "2001:db8::ffff:7f00:1",
]  # fmt: skip

WHOLE = [
    "http://public.test@127.0.0.1:{port}/", "http://127.0.0.1:{port}@public.test/", "http://a:b@localhost:{port}/",
    "http://public.test:80@127.0.0.1:{port}/", "http://127.0.0.1:{port}\\@public.test/",
    "http://public.test\\@127.0.0.1:{port}/", "http:\\\\127.0.0.1:{port}/", "http:/127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/", "//127.0.0.1:{port}/", "http:///127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@public.test/",
    "http://127.0.0.1:{port}?@public.test/x y", "http://127.0.0.1:{port}/#public.test", " http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/ ", "http://127.0.0.1:{port}/\t", "ht\ttp://127.0.0.1:{port}/",
    "http://127.0.\n0.1:{port}/",
    "http://127.0.0.1\r\nhost: public.test:{port}/", "http://127.0.0.1:{port}/\r\nx: y", "http://127.0.0.1%00:{port}/",
    "http://127.0.0.1%2f:{port}/", "http://%31%32%37.0.0.1:{port}/", "http://127%2e0%2e0%2e1:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/", "http://127。0。0。1:{port}/", "http://１２７.０.０.１:{port}/",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:{port}/", "http://localhost\u200b:{port}/", "http://localho\u00adst:{port}/",
    "http://127.0.0.1:{port}:80/", "http://127.0.0.1:0{port}/", "http://127.0.0.1:+{port}/", "http://127.0.0.1:/",
    "HTTP://127.0.0.1:{port}/", "file:///etc/passwd", "file://127.0.0.1/etc/passwd", "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_x", "dict://127.0.0.1:{port}/x", "ldap://127.0.0.1:{port}/", "ws://127.0.0.1:{port}/",
    "jar:http://127.0.0.1:{port}!/", "data:text/plain,x", "javascript:1", "unix:/var/run/docker.sock",
    "http+unix://%2fvar%2frun%2fdocker.sock/", "http://", "http://:{port}/", "http://.:{port}/", "http://..:{port}/",
    "http://-a.test:{port}/", "http://a-.test:{port}/", "http://a..test:{port}/", "http://public.test.:{port}/",
    "http://public.test:{port}/%", "http://public.test:{port}/%zz", "http://public.test:{port}/a<b>", "",
    "http://public.test:22/", "http://public.test:6379/", "http://public.test:65536/", "http://public.test:99999/",
    "http://xn--/..:{port}/", "http://[::1]:{port}@public.test/", "http://[::ffff:127.0.0.1]x:{port}/",
    "http://public.test%2540@127.0.0.1:{port}/", "http://127.0.0.1:{port}%23.public.test/", "HTTP://127.0.0.1:{port}/",
    "http://public.test%00.127.0.0.1:{port}/", "http://[127.0.0.1]:{port}/", "http://[::]:{port}/", "http://0:{port}/",
    "http://user@localhost:{port}/", "http://LOCALHOST.:{port}/", "http://127.0.0.1:+{port}/", "http://127.0.0.1:0{port}/",
    "http://127.0.0.1: {port}/", "http://public.test\uff1a{port}/", "http://public.test\uff0f@127.0.0.1:{port}/",
    "http://127.0.0.1\u2044@public.test:{port}/", "http://public.test;@127.0.0.1:{port}/", "http://public.test,127.0.0.1/",
    "http://lo\u200dcalhost:{port}/", "http://\uff4cocalhost:{port}/", "http://localhost\u3002:{port}/",
    "http:/\u2215127.0.0.1/",
    "http://[::1]:{port}%2f@public.test/", "http://[::1]%25:{port}/", "http://127.0.0.1:{port}/\u0000", "http://[fe80::1%25lo]:{port}/",
    "http+tcp://127.0.0.1:{port}/", "https+http://127.0.0.1:{port}/", "tftp://127.0.0.1:{port}/", "netdoc:///etc/passwd",
]  # fmt: skip

# What a resolver answers for a name: no answer here may lead to a connection.
ANSWERS: dict[str, list[str]] = {
    "localhost": ["127.0.0.1"],
    "ip6-localhost": ["::1"],
    "x.localhost": ["127.0.0.1"],
    "loopback.test": ["127.0.0.1"],
    "loopback-6.test": ["::1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "mapped-hex.test": ["::ffff:7f00:1"],
    "compatible.test": ["::127.0.0.1"],
    "nat64.test": ["64:ff9b::7f00:1"],
    "sixtofour.test": ["2002:7f00:1::1"],
    "teredo.test": ["2001:0:7f00:1::1"],
    "zone.test": ["fe80::1%lo"],
    "zone-loopback.test": ["::1%lo"],
    "private.test": ["10.1.2.3"],
    "shared.test": ["100.64.1.1"],
    "metadata.test": ["169.254.169.254"],
    "metadata.google.internal": ["169.254.169.254"],
    "wireserver.test": ["168.63.129.16"],
    "unspecified.test": ["0.0.0.0"],
    "unspecified-6.test": ["::"],
    "broadcast.test": ["255.255.255.255"],
    "first-public.test": ["93.184.215.14", "127.0.0.1"],
    "last-public.test": ["127.0.0.1", "93.184.215.14"],
    "both-families.test": ["2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::1"],
    "not-an-address.test": ["127.1"],
    "number.test": ["2130706433"],
    "words.test": ["localhost"],
    "empty-word.test": [""],
    "unique-local.test": ["fd12:3456::1"],
    "multicast.test": ["224.0.0.251"],
    "translated.test": ["::ffff:0:7f00:1"],
    "nat64-metadata.test": ["64:ff9b::a9fe:a9fe"],
    "nat64-own.test": ["64:ff9b:1:7f00:1::"],
    "sixtofour-metadata.test": ["2002:a9fe:a9fe::1"],
    "isatap.test": ["fe80::5efe:7f00:1"],
    "upper.test": ["::FFFF:A9FE:A9FE"],
    "tasks.test": ["169.254.170.23"],
    "alibaba.test": ["100.100.100.200"],
    "amazon-6.test": ["fd00:ec2::23"],
    "bridge.test": ["172.17.0.1"],
    "localtest.test": ["127.0.0.2"],
    "twentieth.test": [*(f"93.184.215.{n}" for n in range(19)), "10.0.0.9"],
    "blank.test": [" 127.0.0.1"],
    "bracketed.test": ["[::1]"],
    "with-port.test": ["127.0.0.1:80"],
}

REDIRECTS = [
    "http://127.0.0.1:{port}/", "//127.0.0.1:{port}/", "http://localhost:{port}/", "http://[::1]:{port}/",
    "http://169.254.169.254/latest/meta-data/", "http://2130706433:{port}/", "http:127.0.0.1:{port}/",
    "http://door.test@127.0.0.1:{port}/", "\\\\127.0.0.1:{port}\\", "/\\127.0.0.1:{port}/",
    "//door.test@127.0.0.1:{port}/",
    "http://loopback.test:{port}/", "https://loopback.test/", "file:///etc/passwd", "gopher://127.0.0.1:{port}/",
    "http://door.test.evil.test:{port}/", "http://door.test:22/", "relative", "?query", "http://DOOR.test.:{port}/",
    "http://door.test:{port}\t/", "ftp://door.test/", "http://door.test:{port}@127.0.0.1:{port}/", "http://0x7f.1:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/", "http://door.test%00@127.0.0.1:{port}/", "http://door.test%2f@127.0.0.1:{port}/",
    "///127.0.0.1:{port}/", "////127.0.0.1:{port}/", "//0:{port}/", "//[::]:{port}/", "http:///127.0.0.1:{port}/",
    "http://door.test\x00:{port}/", "http://door\u3002test:{port}/", "javascript:location='http://127.0.0.1:{port}/'",
    "http://translated.test:{port}/", "http://tasks.test/latest/meta-data/",
]  # fmt: skip


def addresses() -> list[str]:
    """All addresses, with ``{port}``."""
    found = [f"http://{number}:{{port}}/" for number in NUMBERS]
    found += [f"http://[{text}]:{{port}}/" for text in BRACKETED]
    found += WHOLE
    return found + [f"http://{name}:{{port}}/secret" for name in ANSWERS]
