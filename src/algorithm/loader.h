// Loads algorithms from shared objects at run time. Design §6; module.h says what such a file
// holds.
//
// The one place beside io/ that touches the file system: dlopen takes no other way.
#pragma once

#include <string>
#include <string_view>

#include "algorithm/module.h"
#include "algorithm/registry.h"
#include "base/result.h"

namespace dst::algorithm {

/// An algorithm whose file is in memory and fits this program. Move it into a registry.
struct LoadedModule {
    Origin origin;  // first, so that it goes last
    std::string name;
    std::string description;
    Factory factory;
};

/// Brings `file`, an absolute path, into memory and checks it. Blocks: reads the file and runs its
/// constructors. Refuses with a line that names the file, what was found and what to do.
Outcome<LoadedModule> open_module(const std::string& file);

/// `open_module`, then registers it. The algorithm's name.
Outcome<std::string> load_algorithm(Registry& registry, const std::string& file);

/// Does `module`, found in `file`, fit this program? Reads nothing that does not, calls nothing.
Outcome<> check_module(const Module& module, std::string_view file);

}  // namespace dst::algorithm
