// A piece of memory in a scatter-gather list. Owns nothing. Laid out as the kernel's iovec.
#pragma once

#include <cstddef>
#include <span>

namespace dst::io {

struct Slice {
    std::byte* data = nullptr;
    std::size_t size = 0;

    Slice() = default;
    Slice(std::byte* from, std::size_t length) : data(from), size(length) {}
    explicit Slice(std::span<std::byte> bytes) : data(bytes.data()), size(bytes.size()) {}
};

/// For sending: the bytes are only read.
[[nodiscard]] inline Slice slice_of(std::span<const std::byte> bytes) {
    return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

}  // namespace dst::io
