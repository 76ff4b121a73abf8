// SocketPair: two connected sockets of this process; one end is for somebody else.
#pragma once

#include <memory>

#include "base/result.h"
#include "io/uring/socket_stream.h"

namespace dst::io::uring {

struct SocketPair {
    std::unique_ptr<SocketStream> ours;
    std::unique_ptr<SocketStream> others;

    static Outcome<SocketPair> open(Reactor& reactor);
};

}  // namespace dst::io::uring
