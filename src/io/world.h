// All of the seam in one hand: what a reactor gives to the code that runs on it.
#pragma once

#include "async/run_queue.h"
#include "io/clock.h"
#include "io/file.h"
#include "io/net.h"

namespace dst::io {

/// References outlive whoever holds the world.
struct World {
    Clock& clock;
    Random& random;
    FileSystem& files;
    Network& network;
    async::RunQueue& queue;
};

}  // namespace dst::io
