// The command line of dst-sim.
#pragma once

namespace dst::sim {

/// The program's exit code: 0 clean, 1 a check failed, 2 usage.
int cli_main(int count, char** words);

}  // namespace dst::sim
