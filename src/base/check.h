// CHECK: for bugs only. Always on; prints where and what, and aborts. Never for what a peer, a disk
// or a user can influence: that is a Result.
#pragma once

namespace dst {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace dst

#define CHECK(condition)                                         \
    do {                                                         \
        if (!(condition)) [[unlikely]]                           \
            ::dst::check_failed(#condition, __FILE__, __LINE__); \
    } while (false)
