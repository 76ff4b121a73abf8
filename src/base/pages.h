// A range of memory straight from the kernel: pages come into being as they are used.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace dst {

class Pages {
  public:
    /// Reserves `bytes`, all zero. Small pages: what is used once costs its own 4 KiB only.
    /// Throws std::bad_alloc if there is not that much address space.
    explicit Pages(std::size_t bytes);
    [[nodiscard]] std::span<std::byte> bytes() const { return {pages_.get(), size_}; }

  private:
    struct Unmap {
        std::size_t size;
        void operator()(std::byte* pages) const;
    };
    std::unique_ptr<std::byte[], Unmap> pages_;
    std::size_t size_;
};

}  // namespace dst
