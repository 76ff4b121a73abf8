// Ends: where the nodes of a head's storages ended when they were seen last.
//
// A node's metadata is at its end, and devices grow. If all nodes have grown while nobody looked,
// nothing at their ends says that there ever was a storage: they look blank, and a new one would be
// made of them. So a head remembers, in its state_dir, where to look as well.
// (Exporters remember it, too, for heads that never saw their device: docs/protocol.md 1.6, Sizes.)
#pragma once

#include <string>
#include <vector>

#include "base/units.h"
#include "io/world.h"

namespace dst::storage {

class Ends {
  public:
    /// `folder`: where they are kept, a file for each storage; empty: nowhere.
    Ends(io::World world, std::string folder) : world_(world), folder_(std::move(folder)) {}

    /// Those of that storage; none if nothing is known, or it can't be read. Blocks.
    [[nodiscard]] std::vector<SectorCount> recall(const std::string& storage) const;
    /// From now on these, durably. Blocks.
    Outcome<> note(const std::string& storage, const std::vector<SectorCount>& ends);

  private:
    [[nodiscard]] std::string path_of(const std::string& storage) const;

    io::World world_;
    const std::string folder_;
};

}  // namespace dst::storage
