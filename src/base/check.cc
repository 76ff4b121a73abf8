#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace dst {

void check_failed(const char* condition, const char* file, int line) {
    std::fprintf(stderr, "%s:%d: bug: CHECK(%s) does not hold\n", file, line, condition);
    std::abort();
}

}  // namespace dst
