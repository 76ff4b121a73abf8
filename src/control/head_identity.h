// Who this head is: an id for its life, kept in state_dir, and how often it was started.
#pragma once

#include <string>

#include "base/result.h"
#include "io/clock.h"
#include "io/file.h"
#include "node/remote.h"

namespace dst::control {

/// Reads `<state_dir>/head`, or makes it; counts this start, durably. A file that can't be read as
/// one is refused with a way back, never replaced. Blocks: for start-up.
[[nodiscard]] Outcome<node::HeadIdentity> begin_incarnation(io::FileSystem& files,
                                                            io::Random& random,
                                                            const std::string& state_dir);

}  // namespace dst::control
