#include "base/pages.h"

#include <sys/mman.h>

#include <new>

namespace dst {

void Pages::Unmap::operator()(std::byte* pages) const { ::munmap(pages, size); }

Pages::Pages(std::size_t bytes) : size_(bytes) {
    void* const pages = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    ::madvise(pages, bytes, MADV_NOHUGEPAGE);
    pages_ = {static_cast<std::byte*>(pages), Unmap{bytes}};
}

}  // namespace dst
