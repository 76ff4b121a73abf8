// For tests: how often a thread has used the heap. Counted by operators of the test program's own
// (count_allocations_test.cc).
#pragma once

#include <cstdint>

namespace dst {

#if defined(__has_feature)
// With the one each coroutine's frame is a heap block of its own, the other brings its own
// operators.
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define DST_COUNTS_ALLOCATIONS false
#endif
#endif
#ifndef DST_COUNTS_ALLOCATIONS
#define DST_COUNTS_ALLOCATIONS true
#endif
inline constexpr bool kCountsAllocations = DST_COUNTS_ALLOCATIONS;

/// Calls of `operator new` by this thread so far; always 0 unless `kCountsAllocations`.
[[nodiscard]] std::uint64_t allocations_of_this_thread();

}  // namespace dst
