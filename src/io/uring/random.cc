#include "io/uring/random.h"

#include <sys/random.h>

#include <bit>
#include <cerrno>

#include "base/check.h"

namespace dst::io::uring {

SystemRandom::SystemRandom() {
    ssize_t got = 0;
    do {
        got = getrandom(state_.data(), sizeof state_, 0);
    } while (got < 0 && errno == EINTR);
    CHECK(got == sizeof state_);  // up to 256 bytes are never given in parts, random(4)
    state_[0] |= 1;               // not all zero
}

std::uint64_t SystemRandom::next() {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
}

}  // namespace dst::io::uring
