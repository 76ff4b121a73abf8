#include "base/frame_pool.h"

#include <array>
#include <new>

namespace dst {
namespace {

#if defined(__SANITIZE_ADDRESS__) || (defined(__has_feature) && __has_feature(address_sanitizer))
inline constexpr bool kPooled = false;
#else
inline constexpr bool kPooled = true;
#endif

inline constexpr std::size_t kGranule = 64;
inline constexpr std::size_t kClasses =
    32;  // up to 2 KiB; larger frames are rare and go to the heap

struct Free {
    Free* next;
};

struct Lists {
    std::array<Free*, kClasses> head{};

    Lists() = default;
    Lists(const Lists&) = delete;
    Lists& operator=(const Lists&) = delete;
    ~Lists() {
        for (Free* at : head) {
            while (at != nullptr) {
                Free* const next = at->next;
                ::operator delete(at);
                at = next;
            }
        }
    }
};

thread_local Lists lists;

std::size_t class_of(std::size_t size) { return (size + kGranule - 1) / kGranule; }

}  // namespace

void* frame_allocate(std::size_t size) {
    const std::size_t at = class_of(size);
    if (!kPooled || at >= kClasses) return ::operator new(size);
    if (Free* const head = lists.head[at]; head != nullptr) {
        lists.head[at] = head->next;
        return head;
    }
    return ::operator new(at * kGranule);
}

void frame_free(void* frame, std::size_t size) noexcept {
    const std::size_t at = class_of(size);
    if (!kPooled || at >= kClasses) {
        ::operator delete(frame);
        return;
    }
    auto* const freed = ::new (frame) Free{lists.head[at]};
    lists.head[at] = freed;
}

}  // namespace dst
