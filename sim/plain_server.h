// A plain NBD server as a program of a simulated process: what a stranger would have written. Its
// clients get no sessions, no instance and no checksums, whatever they ask for.
#pragma once

#include "control/config.h"
#include "sim/process.h"

namespace dst::sim {

/// Shows the exports of `config`, all of them disks, to everybody, on port 10809 unless it says
/// another.
[[nodiscard]] Process::Main plain_server(control::Config config);

}  // namespace dst::sim
