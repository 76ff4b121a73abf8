"""XXH3-128 in Python, from its description (xxhash.h): seed 0, the default secret, the canonical order.

Only for more than 240 bytes, which is what docs/protocol.md asks for: ranges are whole sectors.
"""

import struct

_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e")
_M64 = (1 << 64) - 1
_P32_1, _P32_2, _P32_3 = 0x9e3779b1, 0x85ebca77, 0xc2b2ae3d
_P64_1, _P64_2, _P64_3 = 0x9e3779b185ebca87, 0xc2b2ae3d27d4eb4f, 0x165667b19e3779f9
_P64_4, _P64_5 = 0x85ebca77c2b2ae63, 0x27d4eb2f165667c5
_STRIPE = 64
_STRIPES_A_BLOCK = (len(_SECRET) - _STRIPE) // 8


def _lanes(data, at):
    return struct.unpack_from("<8Q", data, at)


def _accumulate(acc, data, at, secret_at):
    secret = _lanes(_SECRET, secret_at)
    for lane, value in enumerate(_lanes(data, at)):
        key = value ^ secret[lane]
        acc[lane ^ 1] = acc[lane ^ 1] + value & _M64
        acc[lane] = acc[lane] + (key & 0xffffffff) * (key >> 32) & _M64


def _merge(acc, secret_at, start):
    secret = _lanes(_SECRET, secret_at)
    total = start
    for lane in range(0, 8, 2):
        product = (acc[lane] ^ secret[lane]) * (acc[lane + 1] ^ secret[lane + 1])
        total += (product & _M64) ^ product >> 64
    total &= _M64
    total ^= total >> 37
    total = total * 0x165667919e3779f9 & _M64
    return total ^ total >> 32


def xxh3_128(data):
    assert len(_SECRET) == 192 and len(data) > 240
    acc = [_P32_3, _P64_1, _P64_2, _P64_3, _P64_4, _P32_2, _P64_5, _P32_1]
    stripes = (len(data) - 1) // _STRIPE
    scrambling = _lanes(_SECRET, len(_SECRET) - _STRIPE)
    for stripe in range(stripes):
        _accumulate(acc, data, stripe * _STRIPE, stripe % _STRIPES_A_BLOCK * 8)
        if stripe % _STRIPES_A_BLOCK == _STRIPES_A_BLOCK - 1:
            for lane in range(8):
                mixed = acc[lane] ^ acc[lane] >> 47 ^ scrambling[lane]
                acc[lane] = mixed * _P32_1 & _M64
    _accumulate(acc, data, len(data) - _STRIPE, len(_SECRET) - _STRIPE - 7)
    low = _merge(acc, 11, len(data) * _P64_1 & _M64)
    high = _merge(acc, len(_SECRET) - _STRIPE - 11, ~(len(data) * _P64_2) & _M64)
    return struct.pack(">QQ", high, low)
