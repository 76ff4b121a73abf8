// Memory for coroutine frames: free lists by size class, one set a thread.
//
// Why: a frame is allocated and freed for each request at each depth of the stack, and the hot path
// shall not touch the heap (design §3). A frame is freed by the thread that made it, because all
// coroutines of a reactor stay on its thread. Under AddressSanitizer every frame is a heap block
// of its own, so that use after free is seen.
#pragma once

#include <cstddef>

namespace dst {

// Not inline: an algorithm that was loaded from a file must use the program's free lists.
[[nodiscard]] void* frame_allocate(std::size_t size);
void frame_free(void* frame, std::size_t size) noexcept;

}  // namespace dst
